"""Frequency filters over prefixes, against numpy's Fourier transforms and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alterrec.nn.frequency import FrequencyFilter, FrequencyTransformer, low_waves
from alterrec.nn.layers import initialise
from alterrec.nn.transformer import TransformerSizes

SIZES = TransformerSizes(8, 9, 2, 2, 16, 0.0)


def low_pass(x: np.ndarray, bins: int) -> np.ndarray:
    """As the authors' code has it, over whatever places there are."""
    spectrum = np.fft.rfft(x, axis=0, norm="ortho")
    spectrum[bins:] = 0
    return np.fft.irfft(spectrum, n=len(x), axis=0, norm="ortho")


@pytest.mark.parametrize("bins", [1, 2, 3, 5])
@pytest.mark.parametrize("length", range(1, 12))
def test_low_waves_are_the_low_end_of_the_spectrum(length: int, bins: int) -> None:
    x = np.random.default_rng(0).normal(size=(length, 3))
    waves = low_waves(length, bins)
    np.testing.assert_allclose(waves @ (waves.T @ x), low_pass(x, bins), atol=1e-13)


def test_filter_by_hand() -> None:
    """Of (1, 3) the mean 2 is low, (-1, 1) high; beta 4 gives (-2, 6), the residual (-1, 9), the norm +-1."""
    layer = FrequencyFilter(1, dropout=0.0)
    with torch.no_grad():
        layer.sqrt_beta_D.fill_(-2.0)
    layer.norm = torch.nn.Identity()
    x = torch.tensor([[[1.0], [3.0]]])
    waves = torch.from_numpy(low_waves(2, 1)).float()[None]
    torch.testing.assert_close(layer(x, waves), torch.tensor([[[-1.0], [9.0]]]))


def encoder_of(faithful: bool = False) -> FrequencyTransformer:
    torch.manual_seed(0)
    encoder = FrequencyTransformer(SIZES, alpha=0.6, bins=2, faithful=faithful)
    initialise(encoder, "normal", std=0.5, dim=8)
    return encoder.double().eval()


def test_the_encoder_step_by_step_on_prefixes_without_padding() -> None:
    """One prefix a time, with numpy's transforms in the place of waves."""
    encoder, table = encoder_of(), torch.randn(20, 8, dtype=torch.float64)
    items, lengths = torch.randint(20, (12, 9)), torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 5, 9])
    vectors = encoder(table, items, lengths)
    for prefix, length, vector in zip(items, lengths.tolist(), vectors, strict=True):
        x = encoder.entrance(table[prefix[None, :length]])
        for block in encoder.blocks:
            low = torch.from_numpy(low_pass(x[0].detach().numpy(), 2))
            mixed = low + block.filter.sqrt_beta_D**2 * (x - low)
            filtered = block.filter.norm(x + mixed)
            x = 0.6 * filtered + 0.4 * block.attn_norm(x + block.attention(x))
            x = block.ffn_norm(x + block.ffn(x))
        torch.testing.assert_close(vector, x[0, -1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("faithful", [False, True])
def test_items_after_a_prefix_are_not_seen(faithful: bool) -> None:
    encoder, table = encoder_of(faithful), torch.randn(20, 8, dtype=torch.float64)
    items, lengths = torch.randint(20, (5, 6)), torch.tensor([1, 2, 3, 4, 6])
    vectors = encoder(table, items, lengths)
    other = torch.where(torch.arange(6) < lengths[:, None], items, torch.randint(20, (5, 6)))
    longer = torch.cat([other, torch.randint(20, (5, 3))], 1)
    torch.testing.assert_close(encoder(table, longer, lengths), vectors)


def test_places_on_the_most_that_fit_matter_to_the_faults_alone() -> None:
    """The same weights with room for four more places: padding is filtered with, or there is none."""
    for faithful in (False, True):
        encoder, table = encoder_of(faithful), torch.randn(20, 8, dtype=torch.float64)
        roomier = FrequencyTransformer(
            SIZES._replace(max_len=13), alpha=0.6, bins=2, faithful=faithful
        ).double()
        state = encoder.state_dict()
        positions = state["entrance.positions_LD"]
        if faithful:
            positions = torch.cat([positions[:4], positions])
        else:
            positions = torch.cat([positions, positions[:4]])
        roomier.load_state_dict(state | {"entrance.positions_LD": positions})
        items, lengths = torch.randint(20, (5, 6)), torch.tensor([1, 2, 3, 4, 6])
        same = torch.allclose(encoder(table, items, lengths), roomier.eval()(table, items, lengths))
        assert same is not faithful


def test_layers_start_with_betas_of_their_own_but_in_the_authors_code() -> None:
    for faithful in (False, True):
        first, second = (block.filter.sqrt_beta_D for block in encoder_of(faithful).blocks)
        assert torch.equal(first, second) is faithful
        assert 0.2 < first.std().item() < 3
