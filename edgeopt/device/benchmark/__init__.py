"""benchmark_model, the runtime of devices without Python."""
