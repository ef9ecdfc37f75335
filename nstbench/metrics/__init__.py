"""How a finished picture is judged."""
