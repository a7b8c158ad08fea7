"""The models: any Hugging Face causal LM, and the prompt that all of them read."""
