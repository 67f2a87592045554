"""The diffusion model: network, process, samplers, moving average, files."""
