"""MuJoCo tasks: batches stepped in threads, the tasks themselves, and pictures of them."""
