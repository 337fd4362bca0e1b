"""Fast execution of a frozen VGG19."""
