(** S50, S36 and S34: what separation of the patterns does and does not do. *)

From Coq Require Import Reals List Lra Lia Permutation FinFun.
From Memlm Require Import Definitions Sums LogSumExp Energies Layers Descent Sharper.
Import ListNotations.
Open Scope R_scope.

(** S50: disjoint balls need not store. That of radius 1/4 around 1/2, beside the pattern -1/2, has no fixed point in R^1. *)
Theorem S50_no_fixed_point : forall x, (x - 1 / 2) ^ 2 <= (1 / 4) ^ 2 -> mean_shift [x] [[- (1 / 2)]; [1 / 2]] <> [x].
Proof.
  intros x Hx fixed. assert (1 / 4 <= x) by nra. unfold mean_shift, combination, softmax, sum in fixed.
  cbn [map length combine fold_right repeat] in fixed. rewrite 2 sq_distance_in_one_dimension in fixed.
  apply (f_equal (fun l => nth 0 l 0)) in fixed. cbn [nth] in fixed.
  set (q := exp (2 * x)). set (e := exp (- (x - - (1 / 2)) ^ 2)) in *.
  replace (exp (- (x - 1 / 2) ^ 2)) with (e * q) in fixed by (unfold e, q; rewrite <- exp_plus; f_equal; field).
  assert (He : 0 < e) by apply exp_pos. assert (Hq : 0 < q) by apply exp_pos.
  assert (tanh : (q - 1) = 2 * x * (q + 1)).
  { rewrite <- fixed at 1. field. nra. }
  pose proof (exp_ineq1_le (- (2 * x))) as below. rewrite exp_Ropp in below. fold q in below.
  assert (q * (1 - 2 * x) <= q * / q) by (apply Rmult_le_compat_l; lra). rewrite Rinv_r in * by lra. nra.
Qed.

(** So it is false that patterns with disjoint balls are stored, even if that asks only for a fixed point in each ball. *)
Theorem S50_disjoint_balls_need_not_store :
  ~ (forall n patterns r, 0 < r -> (forall rho, In rho patterns -> length rho = n) ->
     (forall rho rho', In rho patterns -> In rho' patterns -> rho <> rho' -> (2 * r) ^ 2 < sq_distance rho rho') ->
     forall rho, In rho patterns ->
     exists x, length x = length rho /\ sq_distance x rho <= r ^ 2 /\ mean_shift x patterns = x).
Proof.
  intros claimed. destruct (claimed 1%nat [[- (1 / 2)]; [1 / 2]] (1 / 4) ltac:(lra)) with (rho := [1 / 2])
    as ([| x [| y ys]] & Hlen & near & fixed); try easy.
  - now intros rho [<- | [<- | []]].
  - intros rho rho' [<- | [<- | []]] [<- | [<- | []]] apart; try easy; rewrite sq_distance_in_one_dimension; lra.
  - simpl. tauto.
  - rewrite sq_distance_in_one_dimension in near. now apply (S50_no_fixed_point x near).
Qed.

(** (rho - m) . u = sum_j w_j (rho - rho_j) . u for the mean-shift point m of rho with weights w_j <= exp(- |rho - rho_j|^2):
    the pattern rho itself drops out, the others remain. *)
Lemma away_from_mean_shift : forall rho others patterns u, fits rho patterns -> Permutation patterns (rho :: others) ->
  length u = length rho -> exists w, (forall r, 0 < w r <= exp (- sq_distance rho r)) /\
  dot (differences rho (mean_shift rho patterns)) u = sum (map (fun r => w r * dot (differences rho r) u) others).
Proof.
  intros rho others patterns u Hfits Hperm Hu. pose proof (length_mean_shift rho patterns Hfits) as Hm.
  destruct Hfits as [Hne Hlen]. set (f := fun r => - sq_distance rho r).
  set (w := fun r => exp (f r - LSE (map f patterns))). exists w.
  assert (Hin : In rho patterns) by (apply Permutation_in with (1 := Permutation_sym Hperm); now left).
  split.
  - intros r. split; [apply exp_pos |]. apply exp_le. unfold f at 1.
    pose proof (L2_lower (map f patterns) (map_nonempty patterns f Hne)).
    pose proof (maximum_bounds (map f patterns) (f rho) (in_map f _ _ Hin)). unfold f in H0 at 1.
    rewrite sq_distance_to_itself in H0. lra.
  - rewrite dot_differences by congruence. unfold mean_shift. change (fun r => - sq_distance rho r) with f.
    rewrite softmax_as_weights by exact Hne. fold w. rewrite (dot_combination (length rho)) by assumption.
    assert (weights : sum (map w patterns) = 1) by now apply sum_exp_normalised.
    replace (dot rho u - _) with (sum (map (fun r => w r * dot (differences rho r) u) patterns)).
    + rewrite (sum_permuted _ _ (Permutation_map _ Hperm)). unfold sum. cbn [map fold_right].
      rewrite dot_differences by reflexivity. ring.
    + rewrite (map_ext_in _ (fun r => dot rho u * w r + -1 * (w r * dot r u)))
        by (intros r Hr; rewrite dot_differences by (symmetry; now apply Hlen); ring).
      rewrite sum_plus, 2 sum_scale, weights. ring.
Qed.

(** S36: grad E = 2 (x - mean shift), E4_gradient in Convexity.v. At a corner of the hull of two or more patterns, where some
    linear form v is greater than at all others, it is not 0 ... *)
Theorem S36_corner : forall rho others patterns v,
  fits rho patterns -> Permutation patterns (rho :: others) -> others <> [] ->
  length v = length rho -> (forall r, In r others -> dot r v < dot rho v) -> mean_shift rho patterns <> rho.
Proof.
  intros rho others patterns v Hfits Hperm Hothers Hv corner fixed.
  destruct (away_from_mean_shift rho others patterns v Hfits Hperm Hv) as (w & Hw & value).
  rewrite fixed, dot_differences in value by reflexivity. destruct others as [| r others]; [easy |].
  assert (Hlen : forall q, In q (r :: others) -> length rho = length q).
  { intros q Hq. symmetry. apply Hfits. apply Permutation_in with (1 := Permutation_sym Hperm). now right. }
  assert (terms : forall q, In q (r :: others) -> 0 < w q * dot (differences rho q) v).
  { intros q Hq. rewrite dot_differences by now apply Hlen. apply Rmult_lt_0_compat; [apply Hw |].
    specialize (corner q Hq). lra. }
  assert (0 <= sum (map (fun q => w q * dot (differences rho q) v) others)).
  { rewrite <- (Rmult_0_r (count others)), <- sum_constant. apply sum_le. intros q Hq. left. apply terms. now right. }
  pose proof (terms r (or_introl eq_refl)). unfold sum in *. cbn [map fold_right] in value. lra.
Qed.

(** ... but small: |grad E| <= 2 (d - 1) s exp(- s^2) if the other d - 1 patterns are at distance s >= 1/sqrt(2) or more. *)
Theorem S36_gradient : forall rho others patterns s, fits rho patterns -> Permutation patterns (rho :: others) ->
  0 < s -> 1 <= 2 * s ^ 2 -> (forall r, In r others -> s ^ 2 <= sq_distance rho r) ->
  2 * sqrt (sq_distance rho (mean_shift rho patterns)) <= 2 * (count patterns - 1) * s * exp (- s ^ 2).
Proof.
  intros rho others patterns s Hfits Hperm Hs Hlarge far. set (m := mean_shift rho patterns).
  pose proof (length_mean_shift rho patterns Hfits) as Hm. fold m in Hm. set (D := differences rho m).
  assert (HD : length D = length rho) by (unfold D, differences; rewrite map_length, combine_length; lia).
  destruct (away_from_mean_shift rho others patterns D Hfits Hperm HD) as (w & Hw & value). fold m D in value.
  rewrite dot_itself in value. rewrite <- sq_norm_differences. fold D. set (N := sqrt (sq_norm D)).
  pose proof (sqrt_sqrt _ (sq_norm_nonnegative D)) as square. fold N in square. assert (HN : 0 <= N) by apply sqrt_pos.
  replace (count patterns - 1) with (count others)
    by (unfold count; rewrite (Permutation_length Hperm); cbn [length]; rewrite S_INR; ring).
  assert (each : forall r, In r others -> w r * dot (differences rho r) D <= s * exp (- s ^ 2) * N).
  { intros r Hr. assert (Hlen : length rho = length r).
    { symmetry. apply Hfits. apply Permutation_in with (1 := Permutation_sym Hperm). now right. }
    set (t := sqrt (sq_distance rho r)).
    assert (Ht : t ^ 2 = sq_distance rho r) by (apply pow2_sqrt; rewrite <- sq_norm_differences; apply sq_norm_nonnegative).
    assert (s <= t) by (unfold t; rewrite <- (sqrt_pow2 s) by lra; apply sqrt_le_1_alt; now apply far).
    assert (Hdot : dot (differences rho r) D <= t * N).
    { eapply Rle_trans; [apply dot_below_norms |].
      - unfold differences at 1. rewrite map_length, combine_length. lia.
      - rewrite sq_norm_differences. right. reflexivity. }
    destruct (Hw r) as [positive small]. rewrite <- Ht in small.
    (* t exp(- t^2) falls for t >= 1/sqrt 2: exp(t^2 - s^2) >= 1 + t^2 - s^2 >= t / s. *)
    assert (falls : t * exp (- t ^ 2) <= s * exp (- s ^ 2)).
    { replace (exp (- s ^ 2)) with (exp (- t ^ 2) * exp (t ^ 2 - s ^ 2)) by (rewrite <- exp_plus; f_equal; ring).
      pose proof (exp_pos (- t ^ 2)). pose proof (exp_ineq1_le (t ^ 2 - s ^ 2)).
      assert (1 <= s * (t + s)) by nra. assert (0 <= (t - s) * (s * (t + s) - 1)) by (apply Rmult_le_pos; lra).
      assert (t <= s * (1 + (t ^ 2 - s ^ 2))) by nra.
      assert (s * (1 + (t ^ 2 - s ^ 2)) <= s * exp (t ^ 2 - s ^ 2)) by (apply Rmult_le_compat_l; lra).
      replace (s * _) with (exp (- t ^ 2) * (s * exp (t ^ 2 - s ^ 2))) by ring. rewrite Rmult_comm.
      apply Rmult_le_compat_l; lra. }
    apply Rle_trans with (w r * (t * N)); [apply Rmult_le_compat_l; lra |].
    apply Rle_trans with (exp (- t ^ 2) * (t * N)); [apply Rmult_le_compat_r; [apply Rmult_le_pos; lra | exact small] |].
    replace (exp (- t ^ 2) * (t * N)) with (t * exp (- t ^ 2) * N) by ring. now apply Rmult_le_compat_r. }
  pose proof (sum_le others _ (fun _ => s * exp (- s ^ 2) * N) each) as total.
  rewrite sum_constant, <- value, <- square in total.
  destruct HN as [HN | <-].
  - assert (N <= count others * (s * exp (- s ^ 2))) by (apply Rmult_le_reg_r with N; lra). lra.
  - assert (0 <= count others) by apply pos_INR. pose proof (exp_pos (- s ^ 2)).
    assert (0 <= count others * (s * exp (- s ^ 2))) by (apply Rmult_le_pos; nra). lra.
Qed.

Lemma sq_distance_from : forall x rho q, length rho = length x -> length q = length x ->
  sq_distance x q = sq_distance rho q - 2 * dot (differences rho q) (differences rho x) + sq_distance rho x.
Proof.
  unfold sq_distance, differences, dot, sum. induction x as [| a x IH];
    intros [| b rho] [| c q] Hr Hq; try easy; [simpl; ring |].
  cbn [combine map fold_right]. rewrite (IH rho q) by (simpl in *; congruence). ring.
Qed.

(** S34: within r <= s/2 of a pattern, with the others at distance s or more from it,
    0 <= g - E <= log(1 + (d - 1) exp(- s (s - 2 r))) ... *)
Theorem S34_near_a_pattern : forall x rho others patterns r s, fits x patterns -> Permutation patterns (rho :: others) ->
  0 <= r -> 2 * r <= s -> sq_distance rho x <= r ^ 2 -> (forall q, In q others -> s ^ 2 <= sq_distance rho q) ->
  0 <= g x patterns - E x patterns <= ln (1 + (count patterns - 1) * exp (- (s * (s - 2 * r)))).
Proof.
  intros x rho others patterns r s Hfits Hperm Hr Hrs near far. pose proof (P1 x patterns (proj1 Hfits)) as [_ top].
  split; [lra |]. clear top. destruct Hfits as [Hne Hlen].
  assert (Hin : forall q, In q (rho :: others) -> In q patterns)
    by (intros q Hq; now apply Permutation_in with (1 := Permutation_sym Hperm)).
  assert (Hrho : length rho = length x) by (apply Hlen, Hin; now left).
  set (a := sqrt (sq_distance rho x)).
  assert (nonnegative : forall y z, 0 <= sq_distance y z)
    by (intros; rewrite <- sq_norm_differences; apply sq_norm_nonnegative).
  assert (Ha : a ^ 2 = sq_distance rho x) by (apply pow2_sqrt, nonnegative).
  assert (Har : 0 <= a <= r) by (split; [apply sqrt_pos | rewrite <- (sqrt_pow2 r) by exact Hr; now apply sqrt_le_1_alt]).
  assert (mirror : sq_distance x rho = a ^ 2).
  { rewrite Ha, <- 2 sq_norm_differences. unfold sq_norm, differences. rewrite 2 map_map.
    unfold sum. clear - Hrho. revert rho Hrho. induction x as [| b x IH]; intros [| c rho] H; try easy.
    cbn [combine map fold_right]. rewrite (IH rho) by (now injection H). ring. }
  assert (apart : forall q, In q others -> a ^ 2 + s * (s - 2 * r) <= sq_distance x q).
  { intros q Hq. assert (Hql : length q = length x) by (apply Hlen, Hin; now right).
    rewrite (sq_distance_from x rho q Hrho Hql). set (t := sqrt (sq_distance rho q)).
    assert (Ht : t ^ 2 = sq_distance rho q) by (apply pow2_sqrt, nonnegative).
    assert (s <= t) by (unfold t; rewrite <- (sqrt_pow2 s) by lra; apply sqrt_le_1_alt; now apply far).
    assert (dot (differences rho q) (differences rho x) <= t * a).
    { eapply Rle_trans; [apply dot_below_norms | rewrite 2 sq_norm_differences; right; reflexivity].
      unfold differences. rewrite 2 map_length, 2 combine_length. congruence. }
    rewrite <- Ht, <- Ha. assert (s * (s - 2 * r) <= t * (t - 2 * a)) by (apply Rmult_le_compat; lra). nra. }
  assert (nearest : g x patterns <= a ^ 2).
  { rewrite <- mirror. apply minimum_bounds, in_map, Hin. now left. }
  enough (a ^ 2 - E x patterns <= ln (1 + (count patterns - 1) * exp (- (s * (s - 2 * r))))) by lra.
  unfold E. rewrite LSE_of_map. set (c := exp (- (s * (s - 2 * r)))).
  pose proof (exp_pos (a ^ 2)) as Hexp.
  assert (Hsum : 0 < sum (map (fun q => exp (- sq_distance x q)) patterns)) by (now apply (sum_exp_positive patterns)).
  replace (a ^ 2 - _) with (ln (exp (a ^ 2) * sum (map (fun q => exp (- sq_distance x q)) patterns)))
    by (rewrite ln_mult, ln_exp by assumption; ring).
  apply ln_le; [now apply Rmult_lt_0_compat |]. rewrite <- sum_scale, (sum_permuted _ _ (Permutation_map _ Hperm)).
  replace (count patterns - 1) with (count others)
    by (unfold count; rewrite (Permutation_length Hperm); cbn [length]; rewrite S_INR; ring).
  rewrite <- sum_constant. unfold sum at 1. cbn [map fold_right]. rewrite mirror, <- exp_plus.
  replace (a ^ 2 + - a ^ 2) with 0 by ring. rewrite exp_0. apply Rplus_le_compat_l. apply sum_le. intros q Hq.
  rewrite <- exp_plus. apply exp_le. specialize (apart q Hq). lra.
Qed.

(** ... and disjoint balls alone give no better than log d: for every d >= 1 and eps > 0 there are d patterns with disjoint
    balls where g - E >= log d - eps at a pattern. *)
Theorem S34_no_better_than_log_d : forall d eps, (1 <= d)%nat -> 0 < eps ->
  exists patterns r, length patterns = d /\ 0 < r /\ NoDup patterns /\
  (forall rho q, In rho patterns -> In q patterns -> rho <> q -> (2 * r) ^ 2 < sq_distance rho q) /\
  exists rho, In rho patterns /\ fits rho patterns /\ ln (count patterns) - eps <= g rho patterns - E rho patterns.
Proof.
  intros d eps Hd Heps. set (r := Rmin 1 eps / (3 * INR d)). set (patterns := map (fun k => [INR k * (3 * r)]) (seq 0 d)).
  assert (Hd0 : 1 <= INR d) by (now apply (le_INR 1)).
  assert (Hr : 0 < r) by (apply Rdiv_lt_0_compat; [apply Rmin_glb_lt |]; lra).
  assert (Hspan : INR d * (3 * r) = Rmin 1 eps) by (unfold r; field; lra).
  assert (Hlength : length patterns = d) by (unfold patterns; now rewrite map_length, seq_length).
  exists patterns, r. repeat split; try assumption.
  - apply Injective_map_NoDup; [| apply seq_NoDup]. intros i j H. apply (f_equal (fun l => nth 0 l 0)) in H. cbn [nth] in H.
    apply INR_eq. nra.
  - intros rho q Hrho Hq apart. apply in_map_iff in Hrho as (i & <- & _), Hq as (j & <- & _).
    rewrite sq_distance_in_one_dimension. assert (1 <= (INR i - INR j) ^ 2).
    { destruct (Nat.lt_trichotomy i j) as [H | [-> | H]]; [| easy |]; apply le_INR in H; rewrite S_INR in H; nra. }
    replace ((INR i * (3 * r) - INR j * (3 * r)) ^ 2) with (9 * r ^ 2 * (INR i - INR j) ^ 2) by ring.
    assert (0 < r ^ 2) by nra. nra.
  - exists [INR 0 * (3 * r)]. assert (Hin : In [INR 0 * (3 * r)] patterns)
      by (unfold patterns; apply (in_map (fun k => [INR k * (3 * r)])), in_seq; lia).
    assert (Hne : patterns <> []) by (intros H; now rewrite H in Hin).
    assert (Hcount : count patterns = INR d) by (unfold count; now rewrite Hlength).
    split; [exact Hin |]. split; [split; [exact Hne | now intros q (k & <- & _)%in_map_iff] |].
    pose proof (g_nonnegative [INR 0 * (3 * r)] patterns Hne). unfold E. rewrite LSE_of_map.
    enough (ln (count patterns * exp (- eps))
      <= ln (sum (map (fun rho => exp (- sq_distance [INR 0 * (3 * r)] rho)) patterns))).
    { rewrite ln_mult, ln_exp in H0; [lra | lra | apply exp_pos]. }
    apply ln_le; [apply Rmult_lt_0_compat; [lra | apply exp_pos] |].
    rewrite <- sum_constant. apply sum_le. intros q Hq. apply exp_le, Ropp_le_contravar.
    apply in_map_iff in Hq as (k & <- & Hk). apply in_seq in Hk. rewrite sq_distance_in_one_dimension.
    assert (0 <= INR k <= INR d) by (split; [apply pos_INR | apply le_INR; lia]).
    pose proof (Rmin_l 1 eps). pose proof (Rmin_r 1 eps). simpl INR.
    replace ((0 * (3 * r) - INR k * (3 * r)) ^ 2) with ((INR k * (3 * r)) ^ 2) by ring.
    assert (0 <= INR k * (3 * r) <= Rmin 1 eps) by (rewrite <- Hspan; nra). nra.
Qed.
