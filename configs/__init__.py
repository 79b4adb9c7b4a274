"""Config files: each is the recipe of one training run. Its docstring says the command and the result to expect."""
