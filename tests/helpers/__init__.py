"""What tests share: random operators and graphs, exact arithmetic, references for the activations."""
