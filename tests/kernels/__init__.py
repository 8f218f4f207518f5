"""The smoke tests on kernels that this host does not run, booted in an emulator."""
