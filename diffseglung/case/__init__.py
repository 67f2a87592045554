"""A scan on the model grid: resampled, cropped to the lungs, aligned by its healthy level; and where positions lie."""
