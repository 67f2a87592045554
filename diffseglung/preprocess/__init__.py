"""From a scan as acquired to the model's grid: lungs, resampling, intensity, alignment."""
