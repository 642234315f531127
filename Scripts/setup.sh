#!/usr/bin/env bash
# Installs what building and the model download need, or says what is missing.
set -euo pipefail

if ! command -v swift > /dev/null; then
  echo 'setup: the Swift toolchain is missing; install Swift 6.2 or later from https://www.swift.org/install' >&2
  exit 1
fi

case "$(uname -s)" in
  Darwin)
    missing=()
    command -v pkg-config > /dev/null || missing+=(pkg-config)
    command -v python3 > /dev/null || missing+=(python)
    [ -d "$(brew --prefix sentencepiece 2> /dev/null || echo /nowhere)" ] || missing+=(sentencepiece)
    if [ ${#missing[@]} -gt 0 ]; then
      echo "setup: these are missing; run: brew install ${missing[*]}" >&2
      exit 1
    fi
    ;;
  Linux)
    missing=()
    command -v pkg-config > /dev/null || missing+=(pkg-config)
    if ! command -v pkg-config > /dev/null || ! pkg-config --exists openblas; then missing+=(libopenblas-dev); fi
    if ! command -v pkg-config > /dev/null || ! pkg-config --exists sentencepiece; then
      missing+=(libsentencepiece-dev)
    fi
    if ! command -v pkg-config > /dev/null || ! pkg-config --exists zlib; then missing+=(zlib1g-dev); fi
    python3 -m pip --version > /dev/null 2>&1 || missing+=(python3-pip)
    command -v make > /dev/null || missing+=(make)
    [ ${#missing[@]} -gt 0 ] || exit 0
    root=()
    if [ "$(id -u)" -ne 0 ]; then
      # Without a terminal nobody can type a password.
      if command -v sudo > /dev/null && { [ -t 0 ] || sudo -n true 2> /dev/null; }; then
        root=(sudo)
      else
        echo "setup: these packages are missing and only root can install them: ${missing[*]}" >&2
        exit 1
      fi
    fi
    if ! command -v apt-get > /dev/null; then
      echo "setup: this is no Debian; install what these Debian packages hold: ${missing[*]}" >&2
      exit 1
    fi
    echo "setup: installing ${missing[*]}" >&2
    "${root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
    ;;
  *)
    echo "setup: $(uname -s) is not supported; Linux and macOS are" >&2
    exit 1
    ;;
esac
