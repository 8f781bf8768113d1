"""What each study shows: from its facts to a presentation, a file a study."""
