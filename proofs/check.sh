#!/usr/bin/env bash
# Checks every theorem of this folder in Coq, then that the check can fail.   proofs/check.sh
# 1 compiles all files from clean in a temporary folder; 2 asks Coq what each theorem rests on, and accepts only the axioms
# of Coq's own classical reals; 3 plants falsehoods, each one theorem with its statement changed and its proof kept, and one
# theorem without a proof, all of which must be refused (and the same theorem unchanged, beside it, accepted).
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" >/dev/null && pwd -P)
fail() { printf '%s\n' "proofs/check.sh: $*" >&2; exit 1; }
install="on Debian or Ubuntu 'apt-get install --no-install-recommends coq libcoq-coquelicot' installs both"
install="$install (tested with Coq 8.16.1 and Coquelicot 3.2.0)."
command -v coqc >/dev/null || fail "coqc was not found; $install"

# In the order in which they build on each other.
files="Definitions Sums LogSumExp Energies Layers Printed Descent Stack Sharper Curvature Storage Calculus Convexity"
theorems="L1_convex L1_flat_along_ones L2_lower L2_lower_strict L2_upper L2_strict_is_false_at_1 L3_lower L3_upper
    L3_upper_strict L3_strict_is_false_at_1 L4_two_sided L4_lipschitz P1 P1_strict P2_every_beta P2_one_sided P2_printed
    P3_repaired P3_is_zero_at_one_pattern P3_printed_upper P3_counterexample P3_printed_lower_is_false P3_printed_is_false
    E8_bounds E8_strict_iff_two_layers MM_step_is_a_layer_step MM_values MM_energy_rises MM_claimed_is_false
    E6_printed_energy_is_greatest_at_its_patterns MM_printed_step_is_a_layer_step MM_printed_values MM_printed_energy_rises
    MM_printed_energy_rises_for_any_Z MM_printed_is_false S14 SM_gradient S40 S41 S42 S43
    S45 S46 S47 S48 E10_no_layer_stands_for_two E10_is_false E10_printed_is_false S12 S13_equality S60 S32 E3
    CV_minus_LSE_is_not_convex CV_figure_1_is_not_convex CV_claimed_is_false S10 S10_second_derivative S11 S33 S1 CV_convex_iff
    E6_printed_step_never_approaches E6_repaired_step_never_leaves S50_no_fixed_point S50_disjoint_balls_need_not_store S36_corner
    S36_gradient S34_near_a_pattern S34_no_better_than_log_d E4_gradient P4_many_layers
    SM_partial SM_partial_at_beta L5 gamma_at_naturals E12_printed_is_too_small
    E12_printed_is_false_in_one_dimension E12_printed_is_false_in_three_dimensions"
axioms="ClassicalDedekindReals.sig_not_dec ClassicalDedekindReals.sig_forall_dec Classical_Prop.classic
    FunctionalExtensionality.functional_extensionality_dep"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for file in $files; do cp "$here/$file.v" "$work"; done
cd "$work"
coq() { coqc -q -w none -Q . Memlm "$1.v"; }

# What some theorems together rest on beyond the allowed axioms: nothing, where all is well. (One question about all of them
# takes 1 s, one about each 20 s; what all rest on holds what each rests on.) Coq starts a line with each axiom's name and
# indents what belongs to it; any other line that is not indented is refused too, and so is silence.
unwanted() { # files to load, theorems
    # Imported inside a module only: outside it an axiom of ours cannot go by the short name of one of Coq's.
    printf 'From Memlm Require %s.\nModule M.\nImport %s.\nDefinition all_of_them := (I%s).\nEnd M.\n%s\n' \
        "$1" "$1" "$(printf ', %s' $2)" 'Print Assumptions M.all_of_them.' >Assumptions.v
    coq Assumptions | awk -v allowed="$axioms" '
        BEGIN { split(allowed, names); for (i in names) ok[names[i]] = 1 }
        NR == 1 && ($0 == "Axioms:" || $0 == "Closed under the global context") { answered = 1; next }
        !/^[ \t]/ && !($1 in ok) { print }
        END { if (!answered) print "(no answer from Coq)" }'
}

echo 'From Coquelicot Require Coquelicot.' >Library.v
coq Library 2>/dev/null || fail "Coq's library Coquelicot was not found; $install"
for file in $files; do coq "$file" || fail "$file.v does not compile."; done
listed=$(printf '%s\n' $theorems | sort)
stated=$(for file in $files; do sed -n 's/^Theorem \([A-Za-z0-9_]*\).*/\1/p' "$file.v"; done | sort)
[ "$listed" = "$stated" ] || fail "the theorems listed here and those stated in the files differ: $(
    comm -3 <(echo "$listed") <(echo "$stated") | tr -d '\t' | tr '\n' ' ')"
found=$(unwanted "$files" "$theorems")
[ -z "$found" ] || fail "more than the axioms of the classical reals is used: $found"
for theorem in $theorems; do echo "${theorem%%_*}: proved (Coq)  $theorem"; done

# Each line: what is wrong | the theorem | words of its statement | what they become. All the resulting statements are false.
# Coq reads a file's theorems one after the other and goes on after errors: each first as it is, then changed. Whether a
# proof was accepted shows in what follows it: "Fail Abort" does fail where no proof is left open. (It takes a statement that
# makes no sense for accepted, too, and so for a mistake in this list.)
count=0
expected=
while IFS='|' read -r wrong theorem old new; do
    file=$(grep -l "^Theorem $theorem " "$here"/*.v)
    text=$(<"$file")
    rest="Theorem $theorem ${text#*"Theorem $theorem "}"
    statement=${rest%%Proof.*}
    proof=${rest#"$statement"}
    proof=${proof%%Qed.*}Qed.
    case $statement in *"$old"*) ;; *) fail "the statement of $theorem does not hold the words '$old'." ;; esac
    count=$((count + 1))
    file=$(basename "$file" .v)
    {
        [ -s "$file.planted" ] || grep -E '^(From|Import|Open) ' "$here/$file.v"
        echo "From Memlm Require Import $file."
        echo "Module True_$count. Goal True. idtac \"planted: $theorem\". Abort."
        printf '%s\n' "$statement$proof" 'Fail Abort.' "End True_$count."
        echo "Goal True. idtac \"planted: $theorem, $wrong\". Abort."
        printf '%s\n' "${statement/"$old"/"$new"}$proof" 'Fail Abort.' 'Abort.'
    } >>"$file.planted"
    expected+="$theorem accepted"$'\n'"$theorem, $wrong refused"$'\n'
done <<'END'
wrong sign|L1_convex|<= t * LSE xs|>= t * LSE xs
wrong constant|L2_upper|ln (count xs)|ln (count xs) / 2
missing log n|L2_upper|maximum xs + ln (count xs)|maximum xs
false at n = 1|L2_lower_strict|2 <= length xs|1 <= length xs
wrong sign|L3_lower|minimum xs - ln|minimum xs + ln
missing log n|L3_lower|minimum xs - ln (count xs)|minimum xs
wrong constant|L4_lipschitz|sup_distance xs ys|sup_distance xs ys / 2
missing log d|P1|g x patterns - ln (count patterns)|g x patterns
wrong sign|P1|g x patterns - ln|g x patterns + ln
wrong constant|P2_one_sided|Delta patterns|Delta patterns / 2
missing log d|P2_one_sided|(2 * E_MCHN 2 x patterns - ln (count patterns))|2 * E_MCHN 2 x patterns
missing log d|P3_repaired|- Delta patterns - ln (count patterns)|- Delta patterns
wrong strictness|P3_repaired|E_MCHN 2 x patterns <= 0|E_MCHN 2 x patterns < 0
wrong sign|P3_repaired|- Delta patterns - ln|- Delta patterns + ln
false at d = 1|P3_repaired|2 <= length patterns|1 <= length patterns
missing log l|E8_bounds|- ln (count energies)|
wrong sign|E8_bounds|- ln (count energies)|+ ln (count energies)
false at l = 1|E8_strict_iff_two_layers|2 <= length energies|1 <= length energies
not tight at l = 2|E8_strict_iff_two_layers|2 <= length energies|3 <= length energies
wrong sign|MM_values|1 - ln 2|ln 2 - 1
wrong side|E6_printed_energy_is_greatest_at_its_patterns|E_printed Z D x <= / Z|E_printed Z D x >= / Z
wrong way|MM_printed_step_is_a_layer_step|[1] [2]|[1] [0]
wrong sign|MM_printed_values|exp (-1) - ln 2|exp (-1) + ln 2
wrong constant|MM_printed_energy_rises|31 / 100|29 / 100
wrong side|MM_printed_energy_rises_for_any_Z|[r] < E_global|[r] > E_global
wrong slope|S14|softmax ys|softmax xs
wrong constant|SM_gradient|2 * sup_distance ys xs ^ 2|sup_distance ys xs ^ 2 / 3
wrong constant|S40|- sq_distance|- 2 * sq_distance
wrong constant|S41|patterns) / 2|patterns)
missing log d|S42|(g x patterns + ln (count patterns))|g x patterns
not all patterns|S43|Permutation patterns|incl patterns
wrong sign|S45|- ln (share energies E_t x))|+ ln (share energies E_t x))
never a rise|S46|<= - ln (share energies E_t x)|<= 0
shares of the wrong point|S47|share energies E_t x * (E_t y|share energies E_t y * (E_t y
false at l = 1|S48|2 <= length energies|1 <= length energies
ties let in|E10_no_layer_stands_for_two|E_2 y < E_1 y|E_2 y <= E_1 y
any c|E10_is_false|0 <= c z /\ E_global|E_global
not only equality|S13_equality|LSE ys = maximum|LSE ys <= maximum
equality let out|S12|ln (count xs) <= LSE|ln (count xs) < LSE
not a law|S60|sum qs <= 1|0 <= 1
wrong constant|S32|^ 2 / 2 <= E_MCHN|^ 2 <= E_MCHN
not only zero|E3|= 0 <->|<= 1 <->
concave after all|CV_minus_LSE_is_not_convex|- LSE (mix t xs ys) <=|- LSE (mix t xs ys) >=
wrong side|CV_figure_1_is_not_convex|/ 2 < E_MCHN|/ 2 > E_MCHN
wrong constant|S10|sq_norm v / 2 /\|sq_norm v / 3 /\
wrong sign|S10_second_derivative|t (bend|t (- bend
wrong constant|S11|(count xs - k) * exp|(count xs - k) / 2 * exp
one tie too many|S33|<= g x patterns - ln k|<= g x patterns - ln (k + 1)
wrong constant|S1|beta * sq_distance r1 r2 <= 4|beta * sq_distance r1 r2 <= 5
equality let out|S1|sq_distance r1 r2 <= 2|sq_distance r1 r2 < 2
wrong constant|CV_convex_iff|beta * bend|2 * beta * bend
wrong side|E6_printed_step_never_approaches|g x D <= g x' D|g x' D <= g x D
always nearer|E6_repaired_step_never_leaves|g x' D <= g x D|g x' D < g x D
a ball with 0|S50_no_fixed_point|(1 / 4) ^ 2|(1 / 2) ^ 2
no fixed point asked for|S50_disjoint_balls_need_not_store|mean_shift x patterns = x|True
no corner|S36_corner|dot r v < dot rho v|dot r v <= dot rho v
too near|S36_gradient|1 <= 2 * s ^ 2|0 <= 2 * s ^ 2
wrong constant|E4_gradient|(2 * (dot x v|(1 * (dot x v
wrong constant|S34_near_a_pattern|s * (s - 2 * r)|s * (s - r)
beyond log d|S34_no_better_than_log_d|ln (count patterns) - eps|ln (count patterns) + eps
missing 1/l|P4_many_layers|/ count layers * sum|sum
wrong slope|SM_partial_at_beta|fun y => beta * y|fun y => 2 * beta * y
wrong sign|SM_partial|fun t => LSE|fun t => - LSE
missing e^-r|L5|exp (- r) * Rpower|Rpower
wrong constant|L5|<= Rpower r n / n|<= Rpower r n / (n + 1)
wrong power|gamma_at_naturals|s ^ k|s ^ S k
false for large r|E12_printed_is_too_small|0 < r <= 1|0 < r
wrong constant|E12_printed_is_false_in_one_dimension|2 * gamma|3 * gamma
wrong constant|E12_printed_is_false_in_three_dimensions|1 / 5|1 / 2
END

found=$(for file in *.planted; do
    coqtop -q -w none -Q . Memlm <"$file" 2>&1 | sed -n 's/.*planted: \([^"]*\)$/\1/p
        s/.*command has indeed failed.*/accepted/p; s/.*command has not failed.*/refused/p' | paste -d ' ' - -
done)
[ "$(sort <<<"$found")" = "$(printf '%s' "$expected" | sort)" ] || fail "planted falsehoods, expected and found: $(
    diff <(printf '%s' "$expected" | sort) <(sort <<<"$found"))"

# The planted theorem without a proof compiles; what refuses it is the question about its axioms.
printf 'From Memlm Require Import Definitions.\nFrom Coq Require Import Reals.\nOpen Scope R_scope.\n%s\n%s\n' \
    'Theorem L2_unproved : forall xs, LSE xs <= maximum xs.' 'Admitted.' >Planted.v
coq Planted
found=$(unwanted Planted L2_unproved)
case $found in Planted.L2_unproved*) count=$((count + 1)) ;; *) fail "a theorem without a proof was accepted." ;; esac
[ "$count" -eq 70 ] || fail "$count falsehoods were planted; expected 70."
echo "$(printf '%s\n' $theorems | wc -l) theorems proved, all $count planted falsehoods refused, in $SECONDS s ($(
    coqc --version | sed -n 's/.*version \([0-9.]*\).*/Coq \1/p'))."
