import sys

from spectrace.published import main

sys.exit(main())
