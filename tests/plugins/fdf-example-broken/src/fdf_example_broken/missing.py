"""Never reached: its package raises first."""
