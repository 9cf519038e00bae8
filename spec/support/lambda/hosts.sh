#!/bin/bash
# SPDX-License-Identifier: MIT
# hosts.sh DIR: a Python environment in DIR with the Lambda hosts that the specs
# compare with (requirements.txt) and bin/aws-lambda-rie, AWS's emulator. Made
# once, and anew where the lists of versions have changed. Without a network
# there is none, and the specs that want it say so.
set -eu
dir=$(realpath -m "$1")
cd "$(dirname "$0")"
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9
wanted=$(cat requirements.txt emulator.txt)
if [[ $(cat "$dir/made-of" 2>&1) == "$wanted" ]]; then exit 0; fi

# pip WORDS...: quiet unless it fails.
pip() {
  "$dir/bin/pip" -q --disable-pip-version-check --retries 1 --timeout 20 "$@" \
    --require-hashes >"$dir/log" 2>&1 || {
    tail -n 3 "$dir/log"
    echo "no Lambda hosts to test with: pip failed"
    exit 1
  }
}

rm -rf "$dir"
/usr/bin/python3 -m venv "$dir"
pip install --only-binary :all: -r requirements.txt
pip download --no-deps -d "$dir/wheel" -r emulator.txt
"$dir/bin/python" - "$dir"/wheel/*.whl >"$dir/bin/aws-lambda-rie" <<'END'
import sys
import zipfile
name = "samcli/local/rapid/aws-lambda-rie-x86_64"
sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(name))
END
chmod +x "$dir/bin/aws-lambda-rie"
rm -r "$dir/wheel"
echo "$wanted" >"$dir/made-of"
