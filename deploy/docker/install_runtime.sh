#!/bin/sh
# Installs what monet-server and monetctl load at run time, by Debian 12's names. Versions are the
# base image's: a new base is a new image. Logs, lists and caches go, since they would make every
# build another image.
set -eu
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
  ca-certificates libabsl20220623 libcpp-httplib0.11 libfmt9 libgrpc++1.51 libprometheus-cpp-core1.0 \
  libprometheus-cpp-pull1.0 libprotobuf32 libspdlog1.10 libssl3 libyaml-cpp0.7 zlib1g
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/* \
  /var/lib/dpkg/*-old /var/log/*
