#!/usr/bin/env bash
# build.sh [--binaries DIR] [--revision N] [--out DIR] [--quick]: makes the deb and the rpm of wavegate-agent and
# wavegate-coordinator, from one staging tree each, with the families' own tools. Builds the programs for glibc 2.17, or packs
# those of a directory, stripped. --quick: larger packages in less time. SOURCE_DATE_EPOCH is the time of the last commit,
# unless it is set.
set -euo pipefail
packaging=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(dirname "$packaging")
target=${CARGO_TARGET_DIR:-$workspace/target}

# Both older rpm (4.11) and older dpkg (1.17) unpack these, and no newer ones.
deb_compression=(-Zxz) rpm_payload=w6.xzdio
binaries='' revision=1 out=$target/packages
while (($#)); do
  case $1 in
    --binaries) binaries=$(realpath -e "$2"); shift ;;
    --revision) revision=$2; shift ;;
    --out) out=$(realpath -m "$2"); shift ;;
    --quick) deb_compression=(-Zgzip -z1) rpm_payload=w1.gzdio ;;
    *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;;
  esac
  shift
done
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$workspace" log -1 --format=%ct)}
# One thread compresses: several would cut the data elsewhere, by how many there are.
export LC_ALL=C TZ=UTC DPKG_DEB_THREADS_MAX=1
umask 022
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The tools that build for an old glibc: nothing of the machine's Python is touched.
toolchain() {
  local venv=$target/tools/packaging wanted=$packaging/toolchain.txt
  if ! cmp -s "$wanted" "$venv/toolchain.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$wanted"
    cp "$wanted" "$venv/toolchain.txt"
  fi
  export PATH=$venv/bin:$PATH
}

build_programs() {
  toolchain
  (
    cd "$workspace"
    # No path of this machine gets into the programs: the same commit is the same program wherever it is built.
    paths=("$workspace=/wavegate" "$target=/target" "${CARGO_HOME:-$HOME/.cargo}=/cargo")
    paths+=("$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc --version --verbose | sed -n 's/^commit-hash: //p')")
    export RUSTFLAGS="${paths[*]/#/--remap-path-prefix=}"
    export CFLAGS_x86_64_unknown_linux_gnu="${paths[*]/#/-ffile-prefix-map=}"
    cargo zigbuild --locked --profile packaged --target x86_64-unknown-linux-gnu.2.17 \
      --package wavegate-agent --package wavegate-coordinator --bins
  )
  binaries=$target/x86_64-unknown-linux-gnu/packaged
}

# The file with its `#include FILE` lines replaced by what is in FILE of this directory, and its @WORDS@ by their values.
filled() { # filled FILE
  awk -v from="$packaging/" '
    $1 == "#include" { while ((got = (getline line < (from $2))) > 0) print line; if (got < 0) exit 1; next }
    { print }' "$1" |
    sed -e "s|@VERSION@|$version|; s|@REVISION@|$revision|; s|@GLIBC@|$glibc|; s|@STAGE@|${stage-}|; s|@SIZE@|${size-}|" \
      -e "/^@CHANGELOG@$/{r $scratch/changelog.rpm" -e 'd}'
}

put() { # put MODE SOURCE DESTINATION
  install -D -m "$1" "$2" "$stage$3"
}

# The highest version of glibc's symbols that the programs of a package ask for.
glibc_of() { # glibc_of PROGRAM...
  objdump --dynamic-syms "$@" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort --version-sort | tail -1
}

# Whose work the standard library of Rust is, as the toolchain has it.
standard_library=$(cd "$workspace" && rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html
[[ -e $standard_library ]] || {
  echo "build.sh: this Rust has no $standard_library, which the notices need: use one that rustup has installed" >&2
  exit 1
}

# What both families install alike; $stage is the tree. Units go to $units, completions for zsh to $zsh.
stage_package() { # stage_package PACKAGE
  local program short page
  for program in "${programs[@]}"; do put 0755 "$scratch/programs/$program" "/usr/bin/$program"; done
  put 0644 "$packaging/systemd/$1.service" "$units/$1.service"
  short=${1#wavegate-}
  put 0644 "$packaging/config/$short.toml" "/etc/wavegate/$short.toml"
  install -d -m 0755 "$stage/etc/wavegate/$short.d"
  install -d -m 0711 "$stage/var/lib/wavegate"
  install -d -m 0700 "$stage/var/lib/wavegate/$short"
  if [[ $1 == wavegate-agent ]]; then
    put 0644 "$packaging/config/policy.toml" "/usr/share/doc/$1/examples/policy.toml"
  fi

  for page in "$scratch/documents/$1/man"/*; do put 0644 "$page" "/usr/share/man/man${page##*.}/${page##*/}"; done
  for program in "${programs[@]}"; do
    put 0644 "$scratch/documents/$1/bash/$program" "/usr/share/bash-completion/completions/$program"
    put 0644 "$scratch/documents/$1/zsh/_$program" "$zsh/_$program"
    put 0644 "$scratch/documents/$1/fish/$program.fish" "/usr/share/fish/vendor_completions.d/$program.fish"
  done
  put 0644 "$scratch/documents/$1/third-party-notices" "/usr/share/doc/$1/third-party-notices"
  put 0644 "$standard_library" "/usr/share/doc/$1/rust-standard-library.html"
  gzip -9n "$stage"/usr/share/man/man*/* "$stage/usr/share/doc/$1"/{third-party-notices,rust-standard-library.html}
}

make_deb() { # make_deb PACKAGE
  local size script
  stage=$scratch/deb/$1 units=/lib/systemd/system zsh=/usr/share/zsh/vendor-completions
  stage_package "$1"
  [[ $1 != wavegate-agent ]] || put 0644 "$packaging/upstart/$1.conf" "/usr/share/$1/upstart/$1.conf"
  put 0644 "$packaging/deb/copyright" "/usr/share/doc/$1/copyright"
  put 0644 "$packaging/lint/$1.lintian-overrides" "/usr/share/lintian/overrides/$1"
  put 0644 "$scratch/changelog" "/usr/share/doc/$1/changelog.Debian"
  gzip -9n "$stage/usr/share/doc/$1/changelog.Debian"

  size=$(du -sk --apparent-size "$stage" | cut -f1)
  install -d "$stage/DEBIAN"
  for script in postinst prerm postrm; do
    filled "$packaging/deb/$1/$script" > "$stage/DEBIAN/$script"
    chmod 0755 "$stage/DEBIAN/$script"
  done
  version=$deb_version filled "$packaging/deb/$1/control" > "$stage/DEBIAN/control"
  cp "$packaging/deb/$1/conffiles" "$stage/DEBIAN/conffiles"
  (cd "$stage" && find . -type f ! -path './DEBIAN/*' ! -path './etc/*' -printf '%P\0' | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
  aged
  # dpkg of Ubuntu 14.04 (1.17.5) reads data in xz, but the control part in gzip alone.
  dpkg-deb --root-owner-group --no-uniform-compression "${deb_compression[@]}" --build "$stage" "$out/$1_${deb_version}_amd64.deb" > /dev/null
}

make_rpm() { # make_rpm PACKAGE
  stage=$scratch/rpm/$1 units=/usr/lib/systemd/system zsh=/usr/share/zsh/site-functions
  stage_package "$1"
  put 0644 "$workspace/LICENSE" "/usr/share/licenses/$1/LICENSE"
  put 0644 "$scratch/changelog" "/usr/share/doc/$1/changelog"
  aged
  filled "$packaging/rpm/$1.spec" > "$scratch/$1.spec"
  rpmbuild -bb --quiet --load "$packaging/rpm/macros" --define "_topdir $scratch/rpmbuild/$1" --define "_rpmdir $out" \
    --define "_binary_payload $rpm_payload" --define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
    "$scratch/$1.spec" > "$scratch/$1.log" 2>&1 || { cat "$scratch/$1.log" >&2; return 1; }
}

# Every file is of the time of the commit, whenever it was staged.
aged() {
  find "$stage" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
}

# The changelog with the revision that is made, as Debian has it, and as rpm does.
changelogs() {
  sed "1s/(\(.*\))/(\1-$revision)/" "$packaging/changelog" > "$scratch/changelog"
  awk '/^wavegate/ { gsub(/[()]/, "", $2); version = $2 }
    /^  [*] / { lines = lines "- " substr($0, 5) "\n" }
    /^    / { lines = lines "  " substr($0, 5) "\n" }
    /^ -- / { sub(/^ -- /, ""); split($0, part, /  /); split(part[2], day, /[ ,]+/)
      printf "* %s %s %s %s %s - %s\n%s", day[1], day[3], day[2], day[4], part[1], version, lines; lines = "" }' \
    "$scratch/changelog" > "$scratch/changelog.rpm"
}

[[ -n $binaries ]] || build_programs
version=$(cd "$workspace" && cargo pkgid --offline --package wavegate-agent)
version=${version##*[@#]}
deb_version=$version-$revision
changelogs
(cd "$workspace" && cargo run --quiet --locked --package wavegate-packaging -- "$scratch/documents")
mkdir -p "$out" "$scratch/programs"
jobs=()
for package in wavegate-agent wavegate-coordinator; do
  programs=("$package")
  [[ $package != wavegate-coordinator ]] || programs+=(wavegate)
  for program in "${programs[@]}"; do
    strip --remove-section=.comment -o "$scratch/programs/$program" "$binaries/$program"
  done
  glibc=$(glibc_of "${programs[@]/#/$scratch/programs/}")
  make_deb "$package" & jobs+=($!)
  make_rpm "$package" & jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done
echo "packages of wavegate $version, revision $revision, are in $out" >&2
