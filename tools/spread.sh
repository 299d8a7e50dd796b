#!/bin/sh
# Merge what has changed in a step since the last commit into the steps after it, file by
# file, and each file no further than its first conflict: tools/spread.sh 3
first=$(ls -d step"$1"_* beyond/step"$1"_* 2>/dev/null)
[ "$first" ] || { echo "There is no step $1" >&2 && exit 2; }
index=$(git rev-parse --git-path index)
export GIT_INDEX_FILE="$index.spread" # a copy, so that nothing is staged
trap 'rm -f "$GIT_INDEX_FILE"' EXIT
cp -p "$index" "$GIT_INDEX_FILE" && git add --all . || exit

change() { # what has changed in a folder ($1), as git shows it ($2), of one file ($3)
    git diff-index --cached --relative="$1" "$2" HEAD -- "$1/$3"
}

end=0
for file in $(change "$first" --name-only | grep -v README.md); do # a chapter stays
    from=
    for to in step?_* beyond/step?_* beyond/step??_*; do
        if [ "$to" = "$first" ]; then
            from=$to
        elif [ "$from" ] && { [ -e "$to/$file" ] || [ "$(change "$first" --diff-filter=A "$file")" ]; }; then
            was=$(git ls-files --stage "$to/$file")
            said=$(change "$from" --binary "$file" | git apply --3way --allow-empty --directory="$to" 2>&1) ||
                { echo "$said" >&2 && end=1 && break; }
            [ "$was" = "$(git ls-files --stage "$to/$file")" ] || echo "$to/$file"
            from=$to
        fi
    done
done
exit $end
