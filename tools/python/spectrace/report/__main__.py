"""python -m spectrace.report"""

import sys

from spectrace.report import main

sys.exit(main())
