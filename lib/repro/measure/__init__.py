"""What is measured: functions of tensors, on torch alone. Each module names the paper that it follows."""
