"""Where a command runs: devices, processes, signals, disks."""
