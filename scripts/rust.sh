# Sourced by the other scripts: where cargo and rustc are, and who builds.
#
# rustup puts them into a home. Under sudo HOME is root's, so those of whoever called are taken if they have some; and they build,
# not root, where the tree is theirs: nothing that belongs to root is left in target/.
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

caller=
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
  caller=$(getent passwd "$SUDO_USER" | cut -d: -f6)
  if [ -x "$caller/.cargo/bin/cargo" ]; then
    PATH=$caller/.cargo/bin:$PATH
    export RUSTUP_HOME="${RUSTUP_HOME:-$caller/.rustup}"
  else
    caller=
  fi
fi

# as_caller COMMAND...: as whoever called sudo, if Rust is theirs and they may write here.
as_caller() {
  if [ -n "$caller" ] && runuser -u "$SUDO_USER" -- test -w .; then
    runuser -u "$SUDO_USER" -- env HOME="$caller" "$@"
  else
    "$@"
  fi
}
