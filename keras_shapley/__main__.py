from keras_shapley.cli import main

raise SystemExit(main())
