# SPDX-License-Identifier: MIT
# Python's pool needs a semaphore, which Lambda has not: if it works, this is
# no Lambda-shaped sandbox. Status 0 where it fails with the errno given.
import multiprocessing
import sys

try:
    multiprocessing.Pool(2)
except OSError as error:
    print(error)
    sys.exit(error.errno != int(sys.argv[1]))
sys.exit("multiprocessing.Pool works here")
