# All that is in a root, as busybox sees it: path, kind, mode, owner, size, target, digest. Without what containers have of
# their own. With OWNERS=no, whose it is, is left out.
exec 2>&1
cd /
b=/bin/busybox
each='
    for path; do
        set -- $($b stat -c "%a %u:%g %s" "$path")
        [ "$OWNERS" = no ] && owner= || owner=" $2"
        kind=$($b stat -c %F "$path")
        more=
        case $kind in
        directory) ;;
        symbolic*) more=" -> $($b readlink "$path")" ;;
        regular*)
            more=" $3"
            # Those that nobody may read have no digest, and large ones an end.
            if [ "$3" -gt 100000000 ]; then
                more="$more $($b head -c 5 "$path" | $b tr "\0" 0)..$($b tail -c 4 "$path" | $b tr "\0" 0)"
            elif [ $((0$1 & 0400)) != 0 ]; then
                more="$more $($b md5sum < "$path" | $b cut -c 1-8)"
            fi ;;
        esac
        echo "$path: $kind $1$owner$more"
    done'
prune=
for own in bin dev etc home proc root run sys tmp var; do prune="$prune -path ./$own -prune -o"; done
$b find . -xdev $prune -print0 | $b sort -z | OWNERS=$OWNERS $b xargs -0 $b sh -c "$each" sh
