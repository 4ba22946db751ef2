# Looks at certificate files in a directory, or delivers files: the far end of `receiver.py`.
#
# certferry sends this script on standard input, after assignments (`remote.py` lists the variables),
# and the files after the script. Each answer is a line that begins with the words of $mark, so
# banners and the output of programs are no answers. The folders are those of
# `adapters/files/swap.py`, so a host may change between `files` and `ssh`.
#
# Reading bytes: `dd bs=1` never reads ahead of the count, on any system.
# Renaming: `mv FOLDER/NAME .` replaces a link to a folder; `mv NAME LINK` would move into the folder.

LC_ALL=C; export LC_ALL
set -f
mask=$(umask); umask 077
start=$(pwd)
names='chain.pem privkey.pem fullchain.pem cert.pem'
live=.certferry-live before=.certferry-before after=.certferry-after
earlier=.certferry-earlier kept=.certferry-earlier-draft
receipt=.certferry drafted=.certferry-draft-receipt
links=$before/.links
largest=1048576
under_way='' owner_name=''
# A broken connection does not end a delivery half-way.
trap '' PIPE HUP
# A limit on the size of files is an error in words, in place of a signal.
if (trap '' XFSZ) 2>/dev/null; then trap '' XFSZ; fi

say() { printf '%s %s\n' "$mark" "$*" 2>/dev/null; }

# Ends the script. Before the first change, nothing new stays behind.
fail() {
    [ -n "$under_way" ] || { rm -rf $after; rm -f $drafted; } 2>/dev/null
    say error "$@"
    exit 3
}

# Ends the script with the kind of a failure, by the words of the system (strerror in the C locale).
broken() {
    case $1 in
        *'No space left'* | *'quota exceeded'* | *'File too large'*) fail full ;;
        *'Read-only file system'*) fail read-only "$directory" ;;
        *'ermission denied'* | *'not permitted'*) fail rights "$directory" ;;
    esac
    fail other "$(printf %s "$1" | tail -n 1)"
}

must() { problem=$("$@" 2>&1) || broken "$problem"; }

choose_digest() {
    for tool in 'sha256sum' 'shasum -a 256' 'openssl dgst -sha256 -r' 'sha256 -r'; do
        if command -v "${tool%% *}" >/dev/null 2>&1; then return; fi
    done
    fail tool sha256sum
}

digest_of() {
    # shellcheck disable=SC2086  # the tool has arguments
    set -- "$($tool <"$1" 2>/dev/null)"
    printf %s "${1%% *}"
}

# Sets perm, uid, gid, owner_name and group_name of a file or directory.
facts_of() {
    # shellcheck disable=SC2046  # the first words of the line are wanted
    set -- "$1" $(ls -ldn -- "$1" 2>/dev/null)
    [ $# -ge 5 ] || return 1
    perm=$2 uid=$4 gid=$5
    # shellcheck disable=SC2046
    set -- $(ls -ld -- "$1" 2>/dev/null)
    owner_name=$3 group_name=$4
}

is_owner() { [ "$1" = "$uid" ] || [ "$1" = "$owner_name" ]; }
is_group() { [ "$1" = "$gid" ] || [ "$1" = "$group_name" ]; }

# The rules of `file_trust.py`: root, this user or the declared owner control the way to the files.
must_be_trusted() {
    path=$(pwd -P) me=$(id -u) my_name=$(id -un) is_last=1
    while :; do
        facts_of "${path:-/}" || fail rights "${path:-/}"
        [ "$uid" = 0 ] || [ "$uid" = "$me" ] || { [ -n "$owner" ] && is_owner "$owner"; } ||
            fail stranger "$owner_name" "${path:-/}"
        case $perm in
            ?????????[tT]*) is_sticky=1 ;;
            *) is_sticky='' ;;
        esac
        if [ -n "$is_last" ] || [ -z "$is_sticky" ]; then
            case $perm in ????????w*) fail exposed "${path:-/}" ;; esac
            case $perm in
                ?????w*)
                    case $group_name in
                        root | wheel | "$my_name" | "$owner_name") ;;
                        *) [ "$group_name" = "$owner" ] || fail exposed "${path:-/}" ;;
                    esac
                    ;;
            esac
        fi
        [ -n "${path#/}" ] || return 0
        path=${path%/*} is_last=''
    done
}

must_be_writable() {
    if [ -w . ] && [ -x . ]; then return; fi
    [ "$(id -u)" != 0 ] || fail read-only "$1"
    fail rights "$1"
}

# Enters the directory, and returns 1 if the directory does not exist but could be made.
enter() {
    if [ -h "$directory" ]; then fail link "$(readlink "$directory")"; fi
    if [ -d "$directory" ]; then
        cd -- "$directory" 2>/dev/null || fail rights "$directory"
        must_be_trusted
        must_be_writable "$directory"
        return 0
    fi
    [ ! -e "$directory" ] || fail no-directory
    parent=${directory%/*}
    [ -d "${parent:-/}" ] || fail missing "${parent:-/}"
    cd -- "${parent:-/}" 2>/dev/null || fail rights "${parent:-/}"
    must_be_trusted
    must_be_writable "${parent:-/}"
    return 1
}

is_on_the_way() { [ "$(readlink "$1" 2>/dev/null)" = "$live/$1" ]; }

must_be_free() {
    if is_on_the_way "$1"; then return; fi
    if [ -h "$1" ]; then fail file-link "$1"; fi
    if [ -d "$1" ]; then fail file-directory "$1"; fi
}

must_have_program() {
    command -v "$1" >/dev/null 2>&1 || fail program "$1"
}

# --- looking

show() {
    if is_on_the_way "$1"; then say moving "$1"; fi
    [ -f "$1" ] || return 0
    [ -r "$1" ] || fail rights "$1"
    [ "$(wc -c <"$1")" -le $largest ] || return 0
    facts_of "$1"
    say file "$1" "$(digest_of "$1")" "$perm" "$uid" "$gid" "$owner_name" "$group_name"
}

tell() {
    if [ ! -f "$1" ] || [ "$(wc -c <"$1")" -gt $largest ]; then return 0; fi
    sed "s/^/$mark text $1 /" <"$1"
    printf '\n'
}

look() {
    if enter; then
        for name in $names; do must_be_free "$name"; done
        for name in $names; do show "$name"; done
        tell fullchain.pem
        tell $receipt
    fi
    needed must_have_program
    say looked
}

# --- changing all names at once: see `adapters/files/swap.py`

# Puts a second name of a file into a folder; returns 1 if there is no such file.
link() {
    [ -f "$1/$3" ] || return 1
    if ln -- "$1/$3" "$2/$3" 2>/dev/null; then return; fi
    must cp -p -- "$1/$3" "$2/$3"
}

folder() {
    must rm -rf "$1"
    must mkdir -m 755 "$1"
}

place() { must mv -f -- "$1" .; }

point() {
    must ln -s "$1" $links/$live
    place $links/$live
}

exchange() {
    folder $before
    must mkdir $links
    linked='' count=0
    for name; do
        if link . $before "$name"; then linked="$linked $name" count=$((count + 1)); fi
    done
    # A single changed name needs no detour, and a new name changes no pair.
    if [ $count -gt 1 ]; then
        point $before
        for name in $linked; do
            must ln -s "$live/$name" "$links/$name"
            place "$links/$name"
        done
        point $after
    fi
    for name; do place "$after/$name"; done
    must rm -f $live
    must rm -rf $before $after
}

finish() {
    folder=$(readlink $live 2>/dev/null)
    case $folder in
        "$before" | "$after")
            for name in $names $receipt; do
                if is_on_the_way "$name"; then place "$folder/$name"; fi
            done
            ;;
    esac
    must rm -f $live $drafted
    set +f
    rm -f .certferry-draft-*
    set -f
    must rm -rf $before $after $kept
}

keep() {
    if [ -d $earlier ] && ! grep -q '"fingerprint"' $receipt 2>/dev/null; then return; fi
    folder $kept
    for name in $names $receipt; do link . $kept "$name"; done
    must rm -rf $earlier
    must mv -f $kept $earlier
}

put_back() {
    [ -d $earlier ] || return 0
    folder $after
    back=''
    for name in $names $receipt; do
        if link $earlier $after "$name"; then back="$back $name"; else must rm -f "$name"; fi
    done
    # shellcheck disable=SC2086  # a list of names
    exchange $back
    must rm -rf $earlier $drafted
}

# --- delivering

# Two deliveries at once, such as of a run whose connection broke, go one after the other.
lock() {
    command -v flock >/dev/null 2>&1 || return 0
    exec 9<.
    tries=0
    until flock -n 9; do
        tries=$((tries + 1))
        [ $tries -le 30 ] || fail busy
        sleep 1
    done
}

# Each of the three: NAME SIZE DIGEST PERMISSIONS MODE

is_there() {
    if [ -h "$1" ] || [ ! -f "$1" ]; then return 1; fi
    facts_of "$1"
    case $perm in "$4"*) ;; *) return 1 ;; esac
    { [ -z "$owner" ] || is_owner "$owner"; } && { [ -z "$group" ] || is_group "$group"; } &&
        [ "$(digest_of "$1")" = "$3" ]
}

take() {
    if is_there "$@"; then
        dd bs=1 count="$2" of=/dev/null 2>/dev/null
        return 0
    fi
    receive "$after/$1" "$2" "$3" "$5"
    changed="$changed $1"
}

must_be_there() { is_there "$@" || fail changed "$1"; }

# Receives a file: FILE SIZE DIGEST MODE. Owner and mode are right before the file gets a name.
receive() {
    must touch "$1"
    if [ -n "$owner$group" ] && [ "$1" != $drafted ]; then
        problem=$(chown "$owner${group:+:$group}" "$1" 2>&1) || fail owner "${1##*/}" "$(printf %s "$problem" | tail -n 1)"
    fi
    problem=$(dd bs=1 count="$2" of="$1" 2>&1)
    if [ "$(digest_of "$1")" != "$3" ]; then
        case $problem in *': '*) broken "$problem" ;; esac
        fail cut
    fi
    must chmod "$4" "$1"
}

# Runs one of the operator's programs, and returns the exit code.
run() {
    say begin "$1"
    (
        exec 9<&-
        trap - PIPE HUP
        if (trap - XFSZ) 2>/dev/null; then trap - XFSZ; fi
        umask "$mask"
        cd -- "$start" || exit 126
        if timeout -k 2 1 true 2>/dev/null; then "$1" exec timeout -k 2 "$limit"; else "$1" exec; fi
    ) </dev/null 2>&1
    code=$?
    printf '\n'
    say end "$1" $code
    return $code
}

deliver() {
    if ! enter; then
        needed must_have_program
        must mkdir -m 755 -- "${directory##*/}"
        cd -- "${directory##*/}" || fail rights "$directory"
    fi
    lock
    finish
    for name in $names; do must_be_free "$name"; done
    needed must_have_program
    if [ -z "$again" ] && each is_there && [ "$(digest_of $receipt)" = "$receipt_digest" ]; then
        say same
        return
    fi
    changed=''
    folder $after
    each take
    receive $drafted "$receipt_size" "$receipt_digest" 600
    sync
    if [ -n "$has_test" ]; then keep; fi
    under_way=1
    must rm -f $receipt
    # shellcheck disable=SC2086  # a list of names
    exchange $changed
    each must_be_there
    sync
    if [ -n "$has_test" ] && ! run program_test; then
        put_back
        say put-back
        return
    fi
    if [ -n "$has_reload" ] && ! run program_reload; then
        rm -f $drafted
        say not-reloaded
        return
    fi
    must rm -rf $earlier # before the receipt, so no run leaves an earlier key behind
    must mv -f $drafted $receipt
    sync
    say delivered
}

exec 2>&1
choose_digest
