// The page to try sessions. Texts of items come from anywhere, so they only ever become text nodes.
"use strict";

const RECOMMENDED = 10;
const FOUND = 8;
const SOURCES = 3;
const PARTS = { id: "ID", text: "text", neighbours: "item neighbours", trend: "popularity now", repeats: "repeats", model: "score" };

const at = (id) => document.getElementById(id);
const texts = new Map(); // item id -> text
let session = [];
let turn = 0; // number of the last question, so that late answers to earlier ones are dropped
let search = 0;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Text in an element of its own, so that its direction does not change what is around it.
function isolated(text) {
  return element("bdi", {}, text);
}

function nameOf(id) {
  return texts.get(id) || id;
}

function button(label, id) {
  return element("button", { type: "button", "aria-label": `${label} ${nameOf(id)}` }, label);
}

function titleOf(id) {
  const title = element("div", { class: "title" }, isolated(nameOf(id)));
  if (texts.get(id)) title.append(element("span", { class: "item" }, isolated(id)));
  return title;
}

async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let answer, content;
  try {
    answer = await fetch(path, options);
    content = await answer.json();
  } catch {
    throw new Error("The service does not answer. Is it still running?");
  }
  if (!answer.ok) throw new Error(content.error);
  return content;
}

function fail(error) {
  at("failure").textContent = error ? error.message : "";
  at("failure").hidden = !error;
}

function remember(items) {
  for (const item of items) texts.set(item.item_id, item.text);
}

async function showRun() {
  const run = await ask("health");
  at("run").replaceChildren(
    isolated(run.run), `: ${run.model}, ${run.items.toLocaleString("en")} items, loaded `,
    new Date(run.loaded).toLocaleString(), ", alterrec ", run.version,
  );
}

function showSession() {
  const rows = session.map((id, place) => {
    const remove = button("Remove", id);
    remove.addEventListener("click", () => change(session.filter((_, other) => other !== place), "session-heading"));
    return element("li", {}, titleOf(id), remove);
  });
  at("session").replaceChildren(...rows);
  at("session-note").hidden = session.length > 0;
  at("clear").hidden = session.length < 2;
}

// The focus goes to a heading if the button that had it disappears.
function change(items, heading) {
  if (heading) at(heading).focus();
  session = items;
  const hash = items.map(encodeURIComponent).join(",");
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
  showSession();
  recommend();
}

async function find() {
  const mine = ++search;
  const words = at("words").value;
  if (!words.trim()) {
    at("found").replaceChildren();
    at("found-note").textContent = "";
    return;
  }
  try {
    const found = await ask(`items?limit=${FOUND}&q=${encodeURIComponent(words)}`);
    if (mine !== search) return;
    remember(found.items);
    at("found").replaceChildren(...found.items.map((item) => {
      const row = button("Add", item.item_id);
      row.addEventListener("click", () => change([...session, item.item_id]));
      return element("li", {}, titleOf(item.item_id), row);
    }));
    at("found-note").textContent = found.items.length ? "The most popular items with these words:"
      : "No item has these words.";
    fail(null);
  } catch (error) {
    if (mine === search) fail(error);
  }
}

async function recommend() {
  const mine = ++turn;
  try {
    const { sessions: [answer] } = await ask("recommend", { sessions: [session], k: RECOMMENDED });
    if (mine !== turn) return;
    remember(answer.items);
    showBest(answer);
    fail(null);
    if (answer.source === "model" && answer.items.length) {
      const items = answer.items.map((item) => item.item_id);
      const explained = await ask("explain", { session, items });
      if (mine === turn) showReasons(explained);
    }
  } catch (error) {
    if (mine === turn) fail(error);
  }
}

function showBest(answer) {
  at("best").replaceChildren(...answer.items.map((item) => {
    const more = button("Add", item.item_id);
    more.addEventListener("click", () => change([...session, item.item_id], "best-heading"));
    return element("li", {}, titleOf(item.item_id), more);
  }));
  const unknown = answer.unknown_items ? ` Items of the session that the run does not know: ${answer.unknown_items}.` : "";
  at("best-note").textContent = unknown.trim() || "";
  if (answer.source === "popular") {
    const why = session.length ? "Nothing in the session is known" : "The session is empty";
    at("best-note").textContent = `${why}, so these are the most popular items.${unknown}`;
  } else if (!answer.items.length) {
    at("best-note").textContent = `No item is left to recommend.${unknown}`;
  }
}

function showReasons(explained) {
  const last = explained.items[explained.items.length - 1];
  explained.items.forEach((item, place) => at("best").children[place].append(reasons(item, last, explained.items.length)));
  if (explained.note) at("best-note").textContent = `${at("best-note").textContent} ${explained.note}`.trim();
}

// How the score of an item is made up: its parts, and by how much each is above that of the last item shown.
function reasons(item, last, count) {
  const summary = element("summary", {}, `Why: score ${item.score.toFixed(2)}`, mainSource(item));
  const head = element("tr", {},
    element("th", { scope: "col" }, "Part"),
    element("th", { scope: "col", class: "number" }, "Score"),
    element("th", { scope: "col", class: "number" }, `Above no. ${count}`));
  const rows = Object.entries(item.parts).map(([part, value]) => {
    const name = element("th", { scope: "row" }, PARTS[part] || part);
    const from = origins(item.sources[part] || []);
    if (from) name.append(element("span", { class: "item" }, from));
    return element("tr", {}, name,
      element("td", { class: "number" }, value.toFixed(2)),
      element("td", { class: "number" }, signed(value - (last.parts[part] ?? 0))));
  });
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  return element("details", { class: "why" }, summary, table);
}

function sourceName(source) {
  if (source.kind === "item") return `item ${source.place + 1}`;
  return source.kind === "session" ? "the session as a whole" : "what every item gets";
}

// The source with the largest share, as a mean over the parts whose sources are known.
function mainSource(item) {
  const shares = new Map();
  for (const source of Object.values(item.sources).flat()) {
    const name = sourceName(source);
    shares.set(name, (shares.get(name) || 0) + source.share);
  }
  const [name] = [...shares].reduce((best, each) => (each[1] > best[1] ? each : best), ["", 0]);
  return name && session.length > 1 ? `, mainly from ${name}` : "";
}

function signed(value) {
  return `${value < 0 ? "-" : "+"}${Math.abs(value).toFixed(2)}`;
}

function origins(sources) {
  const shown = sources.slice(0, SOURCES).map((each) => `${Math.round(100 * each.share)}% from ${sourceName(each)}`);
  return [...shown, ...(sources.length > SOURCES ? ["..."] : [])].join(", ");
}

async function start() {
  at("clear").addEventListener("click", () => change([], "session-heading"));
  let timer = 0;
  at("words").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, 150);
  });
  const given = location.hash.slice(1).split(",").filter(Boolean);
  session = given.map((id) => { try { return decodeURIComponent(id); } catch { return id; } });
  showRun().catch(fail);
  // The titles of the items of a link are found one by one.
  await Promise.all(session.map(async (id) => {
    const found = await ask(`items?limit=1&q=${encodeURIComponent(id)}`).catch(() => ({ items: [] }));
    remember(found.items.filter((item) => item.item_id === id));
  }));
  showSession();
  recommend();
}

start();
