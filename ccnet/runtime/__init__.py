"""Where a command runs: devices, processes, signals and disks."""
