#!/bin/sh
# Stand-in for Ubuntu 14.04's invoke-rc.d(8): asks /usr/sbin/policy-rc.d, then upstart or the init script. The answers are
# the real one's: a job that is as asked already is left alone, and one that `manual` has disabled is not started.
disclose=
while [ $# -gt 0 ]; do
    case $1 in
        # The last is of later releases, whose packages the lab has.
        --quiet | --force | --try-anyway | --no-fallback | --skip-systemd-native) shift ;;
        --disclose-deny) disclose=yes; shift ;;
        --*) echo "invoke-rc.d: syntax error: unknown option \"$1\"" >&2; exit 103 ;;
        *) break ;;
    esac
done
[ $# -ge 2 ] || { echo "invoke-rc.d: syntax error: missing required parameter" >&2; exit 103; }
name=$1 action=$2
shift 2

job=
if initctl version 2>/dev/null | grep -q upstart && initctl status "$name" >/dev/null 2>&1; then
    job=yes
elif [ ! -f "/etc/init.d/$name" ]; then
    echo "invoke-rc.d: unknown initscript, /etc/init.d/$name not found." >&2
    [ -e "/etc/init/$name.conf" ] || exit 100
fi

if [ -x /usr/sbin/policy-rc.d ]; then
    code=0
    /usr/sbin/policy-rc.d "$name" "$action" "$(runlevel | cut -d' ' -f2)" || code=$?
    case $code in
        0 | 1 | 104 | 105) ;;
        101) echo "invoke-rc.d: policy-rc.d denied execution of $action." >&2
            [ -z "$disclose" ] || exit 101
            exit 0 ;;
        *) echo "invoke-rc.d: policy-rc.d returned error status $code" >&2; exit 102 ;;
    esac
fi

if [ -z "$job" ]; then
    [ -x "/etc/init.d/$name" ] || exit 0
    "/etc/init.d/$name" "$action" "$@" && exit 0
    code=$?
    echo "invoke-rc.d: initscript $name, action \"$action\" failed." >&2
    exit $code
fi
running= disabled=
status "$name" 2>/dev/null | grep -q ' start/' && running=yes
initctl show-config -e "$name" | grep -q '^  start on' || disabled=yes
code=0
case $action in
    status) status "$name" || code=$? ;;
    stop) [ -z "$running" ] || stop "$name" || code=$? ;;
    start) [ -n "$running$disabled" ] || start "$name" || code=$? ;;
    restart)
        [ -z "$running" ] || stop "$name"
        [ -z "$running" ] && [ -n "$disabled" ] || start "$name" || code=$? ;;
    reload | force-reload) reload "$name" || code=$? ;;
    *) initctl "$action" "$name" || code=$? ;;
esac
[ "$code" = 0 ] || echo "invoke-rc.d: initscript $name, action \"$action\" failed." >&2
exit $code
