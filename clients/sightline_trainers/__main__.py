"""`accelerate launch -m sightline_trainers METHOD ..`: the command. Knows nothing else."""

import sys

from sightline_trainers.train_command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
