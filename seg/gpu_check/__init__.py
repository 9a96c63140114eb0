"""The checks of `python -m shared.gpu_check` that belong to segmentation."""
