"""One command that proves a GPU: `python -m shared.gpu_check`. Parts of both halves do the checks, in processes of their own."""
