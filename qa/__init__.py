"""Quality assurance beyond unit tests: fault injection, fuzzing, mutation testing."""
