# Sourced. mirror_sources SUITE prints deb822 sources of this machine's own Debian mirror for SUITE, or nothing
# when the machine has none (mmdebstrap then uses its default). No mirror is ever named here.

mirror_uri() {
    {
        cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
            function flush() { if (uri != "" && suites ~ /(bullseye|bookworm|trixie)/ && suites !~ /-security/) print uri; uri=""; suites="" }
            /^#/ { next } /^[ \t]*$/ { flush(); next }
            /^URIs:/ { uri=$2 } /^Suites:/ { suites=$0 } END { flush() }'
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | sed 's/\[[^]]*\]//' | awk '
            $1 == "deb" && $3 ~ /^(bullseye|bookworm|trixie)$/ { print $2 }'
    } | head -n 1
}

debian_keyring() {
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f "$keyring" ] || { echo "no $keyring: apt-get install debian-archive-keyring" >&2; return 1; }
    echo "$keyring"
}

mirror_sources() {
    uri=$(mirror_uri)
    [ -n "$uri" ] || return 0
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$uri" "$1" "$(debian_keyring)"
}
