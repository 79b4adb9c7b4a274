"""What a job needs and costs, found out by compiling it: chips, slices, the compiled program, estimates, reports."""
