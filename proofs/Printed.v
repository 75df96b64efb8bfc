(** E6 and MM with the printed layer energy E_t = exp(- g_t) / Z_t: its steps leave the patterns and can raise E_global. *)

From Coq Require Import Reals List Lra.
From Memlm Require Import Definitions Sums LogSumExp Energies Layers.
Import ListNotations.
Open Scope R_scope.

(** The printed E_t = exp(- g_t) / Z_t is greatest at the layer's own patterns, so a step (6) is drawn away from them. *)
Theorem E6_printed_energy_is_greatest_at_its_patterns : forall Z D rho x, 0 < Z -> In rho D ->
  E_printed Z D rho = / Z /\ E_printed Z D x <= / Z.
Proof.
  intros Z D rho x HZ Hrho. unfold E_printed. assert (HD : D <> []) by now intros ->.
  assert (zero : g rho D = 0).
  { apply Rle_antisym; [| now apply g_nonnegative].
    rewrite <- (sq_distance_to_itself rho). apply minimum_bounds. now apply in_map. }
  pose proof (g_nonnegative x D HD). pose proof (Rinv_0_lt_compat Z HZ). rewrite zero, Ropp_0, exp_0.
  unfold Rdiv. split; [ring |].
  enough (exp (- g x D) <= exp 0) by (rewrite exp_0 in *; nra). now apply exp_le; lra.
Qed.

(** E6 as printed: no step (6) with E_t = exp(- g_t) / Z_t ever comes nearer to the layer's patterns. *)
Theorem E6_printed_step_never_approaches : forall Z D delta x x', 0 < Z ->
  layer_step delta (E_printed Z D) x x' -> g x D <= g x' D.
Proof.
  intros Z D delta x x' HZ (_ & _ & least). pose proof (least x eq_refl) as H.
  rewrite sq_distance_to_itself in H. specialize (H (pow2_ge_0 delta)). unfold E_printed in H.
  apply Rmult_le_reg_r in H; [| now apply Rinv_0_lt_compat]. apply Rnot_lt_le. intros nearer.
  assert (exp (- g x D) < exp (- g x' D)) by (apply exp_increasing; lra). lra.
Qed.

(** E6 repaired, with E_t = g_t: no step goes away from them. *)
Theorem E6_repaired_step_never_leaves : forall D delta x x',
  layer_step delta (fun x => g x D) x x' -> g x' D <= g x D.
Proof.
  intros D delta x x' (_ & _ & least). apply least; [reflexivity |]. rewrite sq_distance_to_itself. apply pow2_ge_0.
Qed.

Lemma printed_in_one_dimension : forall Z x rho, E_printed Z [[rho]] [x] = exp (- (x - rho) ^ 2) / Z.
Proof. intros. unfold E_printed. now rewrite g_in_one_dimension. Qed.

(** MM with the printed energies, a case in numbers: layers {0} and {2} in R^1, Z_t = 1. The first, from x = 1 within
    delta = 1, moves to x' = 2 ... *)
Theorem MM_printed_step_is_a_layer_step : layer_step 1 (E_printed 1 [[0]]) [1] [2].
Proof.
  repeat split; [rewrite sq_distance_in_one_dimension; lra |]. intros [| y [| z ys]] Hy Hnear; try easy.
  rewrite sq_distance_in_one_dimension in Hnear. rewrite 2 printed_in_one_dimension.
  enough (exp (- (2 - 0) ^ 2) <= exp (- (y - 0) ^ 2)) by lra. apply exp_le. nra.
Qed.

(** ... while E_global goes from 1/e - log 2 to - log (exp(-e^-4) + 1/e) ... *)
Theorem MM_printed_values :
  E_global [E_printed 1 [[0]]; E_printed 1 [[2]]] [1] = exp (-1) - ln 2 /\
  E_global [E_printed 1 [[0]]; E_printed 1 [[2]]] [2] = - ln (exp (- exp (-4)) + exp (-1)).
Proof.
  unfold E_global. split; cbn [map]; rewrite 2 printed_in_one_dimension; unfold LSE, sum; cbn [map fold_right];
    rewrite Rplus_0_r; unfold Rdiv; rewrite Rinv_1, 2 Rmult_1_r.
  - replace (- (1 - 0) ^ 2) with (-1) by ring. replace (- (1 - 2) ^ 2) with (-1) by ring. set (u := exp (-1)).
    replace (exp (- u) + exp (- u)) with (2 * exp (- u)) by ring. rewrite ln_mult, ln_exp by (lra || apply exp_pos). ring.
  - replace (- (2 - 0) ^ 2) with (-4) by ring. replace (- (2 - 2) ^ 2) with 0 by ring. rewrite exp_0.
    now replace (- (1)) with (-1) by ring.
Qed.

Lemma exp_of_multiple : forall k x, exp (INR k * x) = exp x ^ k.
Proof.
  induction k as [| k IH]; intros x; [simpl; now rewrite Rmult_0_l, exp_0 |].
  rewrite S_INR, Rmult_plus_distr_r, Rmult_1_l, exp_plus, IH. simpl. ring.
Qed.

(** (1 + x/64)^64 <= e^x, as long as 1 + x/64 >= 0. *)
Lemma exp_above_power : forall x, -64 <= x -> (1 + x / 64) ^ 64 <= exp x.
Proof.
  intros x H. replace x with (INR 64 * (x / 64)) at 2 by (rewrite INR_IZR_INZ; simpl; field). rewrite exp_of_multiple.
  apply pow_incr. split; [lra | apply exp_ineq1_le].
Qed.

(** ... that is, up: from below -0.31 to above. *)
Theorem MM_printed_energy_rises :
  E_global [E_printed 1 [[0]]; E_printed 1 [[2]]] [1] < - (31 / 100) < E_global [E_printed 1 [[0]]; E_printed 1 [[2]]] [2].
Proof.
  destruct MM_printed_values as [-> ->].
  assert (upper : forall x c p, p <= exp x -> 0 < p -> 1 <= c * p -> exp (- x) <= c).
  { intros x c p Hx Hp H. rewrite exp_Ropp. pose proof (exp_pos x).
    apply Rmult_le_reg_r with (exp x); [lra |]. rewrite Rinv_l by lra. nra. }
  pose proof (upper 1 (371 / 1000) _ (exp_above_power 1 ltac:(lra)) ltac:(lra) ltac:(lra)) as inverse_e.
  replace (- (1)) with (-1) in inverse_e by ring.
  pose proof (exp_above_power (-4) ltac:(lra)) as small.
  pose proof (upper (exp (-4)) (985 / 1000) _ (exp_ineq1_le _) ltac:(lra) ltac:(lra)) as near_one. split.
  - enough (682 / 1000 <= ln 2) by lra. rewrite <- (ln_exp (682 / 1000)). apply ln_le; [apply exp_pos |].
    replace (682 / 1000) with (- - (682 / 1000)) by ring.
    apply (upper _ _ _ (exp_above_power (- (682 / 1000)) ltac:(lra))); lra.
  - enough (ln (exp (- exp (-4)) + exp (-1)) < ln (exp (31 / 100))) by (rewrite ln_exp in *; lra).
    pose proof (exp_pos (- exp (-4))). pose proof (exp_pos (-1)). pose proof (exp_above_power (31 / 100) ltac:(lra)).
    apply ln_increasing; lra.
Qed.

(** MM with the printed energies, whatever their normalisers: layers {0} and {r + 1} in R^1 with r far enough. The first
    moves from x = r within delta = 1 to x' = r + 1, where the other has the top of its energy, and E_global rises. *)
Theorem MM_printed_energy_rises_for_any_Z : forall Z Z', 0 < Z -> 0 < Z' -> exists r,
  layer_step 1 (E_printed Z [[0]]) [r] [r + 1] /\
  E_global [E_printed Z [[0]]; E_printed Z' [[r + 1]]] [r] < E_global [E_printed Z [[0]]; E_printed Z' [[r + 1]]] [r + 1].
Proof.
  intros Z Z' HZ HZ'. pose proof (Rinv_0_lt_compat Z HZ). pose proof (Rinv_0_lt_compat Z' HZ').
  assert (gap : 0 < exp (- (exp (-1) / Z')) - exp (- / Z')).
  { apply Rlt_Rminus, exp_increasing. assert (exp (-1) < 1) by (rewrite <- exp_0; apply exp_increasing; lra).
    unfold Rdiv. nra. }
  set (c := exp (- (exp (-1) / Z')) - exp (- / Z')) in *. assert (HZc : 0 < Z * c) by nra.
  pose proof (Rinv_0_lt_compat _ HZc). set (r := 1 + / (Z * c)). exists r. split.
  - repeat split; [rewrite sq_distance_in_one_dimension; lra |]. intros [| y [| z ys]] Hy Hnear; try easy.
    rewrite sq_distance_in_one_dimension in Hnear. rewrite 2 printed_in_one_dimension. apply Rmult_le_compat_r; [lra |].
    apply exp_le. assert (1 < r) by (unfold r; lra). nra.
  - unfold E_global. cbn [map]. rewrite 4 printed_in_one_dimension. unfold LSE, sum. cbn [map fold_right].
    replace (- (r - (r + 1)) ^ 2) with (-1) by ring. replace (- (r + 1 - (r + 1)) ^ 2) with 0 by ring. rewrite exp_0.
    set (a := exp (- (r - 0) ^ 2) / Z). set (b := exp (- (r + 1 - 0) ^ 2) / Z).
    assert (far : a < c).
    { unfold a. apply Rmult_lt_reg_r with Z; [exact HZ |]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
      rewrite exp_Ropp. replace (c * Z) with (/ / (Z * c)) by (field; lra). apply Rinv_lt_contravar.
      - apply Rmult_lt_0_compat; [lra | apply exp_pos].
      - pose proof (exp_ineq1_le ((r - 0) ^ 2)). unfold r in *. nra. }
    pose proof (exp_ineq1_le (- a)). assert (0 < b) by (apply Rdiv_lt_0_compat; [apply exp_pos | exact HZ]).
    assert (exp (- b) < 1) by (rewrite <- exp_0; apply exp_increasing; lra). pose proof (exp_pos (- b)).
    pose proof (exp_pos (- (1 / Z'))). apply Ropp_lt_contravar, ln_increasing; [lra |].
    replace (1 / Z') with (/ Z') in * by (field; lra). unfold c in far. lra.
Qed.

(** MM as claimed is false for the printed energies too, for every positive Z that is the same for all single patterns,
    as the integral of exp(- |x - rho|^2) over the whole space is. *)
Theorem MM_printed_is_false : forall Z : list (list R) -> R, 0 < Z [[0]] -> (forall rho, Z [[rho]] = Z [[0]]) ->
  ~ (forall layers D delta x x', (forall D, In D layers -> fits x D) -> In D layers -> 0 < delta ->
     layer_step delta (E_printed (Z D) D) x x' ->
     E_global (map (fun D => E_printed (Z D) D) layers) x' <= E_global (map (fun D => E_printed (Z D) D) layers) x).
Proof.
  intros Z positive same claimed. destruct (MM_printed_energy_rises_for_any_Z _ _ positive positive) as (r & step & rises).
  specialize (claimed [[[0]]; [[r + 1]]] [[0]] 1 [r] [r + 1]).
  lapply claimed; [| intros D [<- | [<- | []]]; apply fits_in_one_dimension].
  intros now_it. lapply now_it; [| simpl; tauto]. intros rest. specialize (rest ltac:(lra) step).
  simpl map in rest. rewrite (same (r + 1)) in rest. lra.
Qed.
