"""The page of `vit_jax.demo`: what a model makes of a photograph, and a web page that shows it."""
