"""Who has a device: leases that the device keeps, and labgrid's places."""
