# Completions of dinrail for bash. Made by `dinrail completions bash`.
_dinrail() {
    # bash breaks words at : and =, which references (filter:1.2.0) and options (--for=running) hold: put them together again.
    local rest=${COMP_LINE:0:COMP_POINT} trimmed word i
    local -a words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        trimmed=${rest#"${rest%%[![:space:]]*}"}
        word=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || word=$trimmed
        if ((i > 0)) && [[ -n $word && $trimmed == "$rest" ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        rest=${trimmed#"$word"}
    done
    local current=${words[${#words[@]} - 1]}
    # What stands before the last break is on the line already.
    local before=${current%"${current##*[:=]}"}
    local IFS=$'\013'
    COMPREPLY=($(DINRAIL_COMPLETE=bash _CLAP_IFS=$IFS _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
        dinrail -- "${words[@]}" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -F _dinrail dinrail
