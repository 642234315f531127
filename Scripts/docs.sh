#!/usr/bin/env bash
# Pages of the libraries, by DocC: from what `swift build -c release` has left, so that nothing is built for them alone.
set -euo pipefail
cd "$(dirname "$0")/.."
out=.build/docs
graphs=.build/symbol-graphs
tools=$(dirname "$(realpath "$(command -v "${SWIFT:-swift}")")")
docc=$tools/docc
[ "$(uname -s)" = Darwin ] && docc=$(xcrun --find docc)
rm -rf "$out" "$graphs"
mkdir -p "$out/parts"

modulemaps=()
for map in Sources/{COpenBLAS,CZlib,CSentencePieceLibrary}/module.modulemap .build/release/*.build/module.modulemap \
  .build/checkouts/*/Sources/*/include/module.modulemap; do
  modulemaps+=(-Xcc "-fmodule-map-file=$map")
done
target=$("${SWIFT:-swift}" -print-target-info | sed -n 's/.*"unversionedTriple": "\(.*\)".*/\1/p' | head -n 1)
parts=()
for catalogue in Sources/*/*.docc; do
  library=$(basename "$catalogue" .docc)
  mkdir -p "$graphs/$library"
  "${SWIFT:-swift}" symbolgraph-extract -module-name "$library" -target "$target" -I .build/release/Modules \
    "${modulemaps[@]}" -minimum-access-level public \
    -skip-synthesized-members -output-dir "$graphs/$library" | sed "/^$/d"
  "$docc" convert "$catalogue" --additional-symbol-graph-dir "$graphs/$library" --warnings-as-errors \
    --fallback-display-name "$library" --fallback-bundle-identifier "egress.$library" \
    --fallback-default-module-kind Library --output-path "$out/parts/$library.doccarchive"
  parts+=("$out/parts/$library.doccarchive")
done
"$docc" merge "${parts[@]}" --synthesized-landing-page-name egress \
  --synthesized-landing-page-topics-style list --output-path "$out/egress.doccarchive"
echo "$out/egress.doccarchive"
