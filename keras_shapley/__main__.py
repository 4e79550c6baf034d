import sys

from keras_shapley.cli import main

sys.exit(main())
