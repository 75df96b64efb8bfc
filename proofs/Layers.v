(** E8 and MM: E_global lies below the energy of each layer, and still a layer's step, which lowers its own, can raise it. *)

From Coq Require Import Reals List Lra Lia.
From Memlm Require Import Definitions Sums LogSumExp.
Import ListNotations.
Open Scope R_scope.

Lemma E_global_is_LSE : forall energies x, E_global energies x = - LSE (map Ropp (map (fun E_t => E_t x) energies)).
Proof. intros. unfold E_global. now rewrite map_map. Qed.

(** E8, for any layer energies whatever: min_t E_t - log l <= E_global <= min_t E_t. *)
Theorem E8_bounds : forall energies x, energies <> [] ->
  minimum (map (fun E_t => E_t x) energies) - ln (count energies) <= E_global energies x
  <= minimum (map (fun E_t => E_t x) energies).
Proof.
  intros energies x H. pose proof (map_nonempty energies (fun E_t => E_t x) H) as He. rewrite E_global_is_LSE.
  pose proof (L3_lower _ He) as lower. pose proof (L3_upper _ He). unfold count in *. rewrite map_length in lower. lra.
Qed.

(** E8, the strict side as printed, E_global < min_t E_t, holds for l >= 2 layers, and for them only. *)
Theorem E8_strict_iff_two_layers : forall energies x, energies <> [] ->
  (E_global energies x < minimum (map (fun E_t => E_t x) energies) <-> (2 <= length energies)%nat).
Proof.
  intros energies x H. rewrite E_global_is_LSE. split.
  - destruct energies as [| E_t [| E_s rest]]; [easy | | simpl; lia].
    destruct L3_strict_is_false_at_1 as [equal _]. cbn [map]. specialize (equal (E_t x)). cbn [map] in equal. lra.
  - intros Hl. apply L3_upper_strict. now rewrite map_length.
Qed.

Lemma g_in_one_dimension : forall x rho, g [x] [[rho]] = (x - rho) ^ 2.
Proof. intros. unfold g, sq_distance, sum. simpl. ring. Qed.

Lemma sq_distance_in_one_dimension : forall x y, sq_distance [x] [y] = (x - y) ^ 2.
Proof. intros. unfold sq_distance, sum. simpl. ring. Qed.

Lemma fits_in_one_dimension : forall x rho, fits [x] [[rho]].
Proof. intros x rho. split; [easy |]. now intros _ [<- | []]. Qed.

(** The counterexample: layers {0} and {2} in R^1, E_t = g_t. The second, from x = 0 within delta = 1, moves to x' = 1 ... *)
Theorem MM_step_is_a_layer_step : layer_step 1 (fun x => g x [[2]]) [0] [1].
Proof.
  repeat split; [rewrite sq_distance_in_one_dimension; lra |]. intros [| y [| z ys]] Hy Hnear; try easy.
  rewrite 2 g_in_one_dimension. rewrite sq_distance_in_one_dimension in Hnear. nra.
Qed.

(** ... while E_global goes from - log (1 + e^-4) to 1 - log 2 ... *)
Theorem MM_values :
  E_global [fun x => g x [[0]]; fun x => g x [[2]]] [0] = - ln (1 + exp (-4)) /\
  E_global [fun x => g x [[0]]; fun x => g x [[2]]] [1] = 1 - ln 2.
Proof.
  unfold E_global. split; cbn [map]; rewrite 2 g_in_one_dimension; unfold LSE, sum; cbn [map fold_right]; rewrite Rplus_0_r.
  - replace (- (0 - 0) ^ 2) with 0 by ring. replace (- (0 - 2) ^ 2) with (-4) by ring. now rewrite exp_0.
  - replace (- (1 - 0) ^ 2) with (-1) by ring. replace (- (1 - 2) ^ 2) with (-1) by ring.
    replace (exp (-1) + exp (-1)) with (2 * exp (-1)) by ring. rewrite ln_mult, ln_exp by (lra || apply exp_pos). ring.
Qed.

(** ... that is, up. *)
Theorem MM_energy_rises :
  E_global [fun x => g x [[0]]; fun x => g x [[2]]] [0] < 0 < E_global [fun x => g x [[0]]; fun x => g x [[2]]] [1].
Proof.
  destruct MM_values as [-> ->]. pose proof (exp_pos (-4)). split.
  - assert (ln 1 < ln (1 + exp (-4))) by (apply ln_increasing; lra). rewrite ln_1 in *. lra.
  - assert (ln 2 < ln (exp 1)) by (apply ln_increasing; [lra | pose proof (exp_ineq1 1); lra]). rewrite ln_exp in *. lra.
Qed.

(** MM as claimed is false: a step (6) of a layer, with E_t = g_t, need not lower E_global. *)
Theorem MM_claimed_is_false :
  ~ (forall layers D delta x x', (forall D, In D layers -> fits x D) -> In D layers -> 0 < delta ->
     layer_step delta (fun x => g x D) x x' ->
     E_global (map (fun D x => g x D) layers) x' <= E_global (map (fun D x => g x D) layers) x).
Proof.
  intros claimed. specialize (claimed [[[0]]; [[2]]] [[2]] 1 [0] [1]). pose proof MM_energy_rises.
  lapply claimed; [| intros D [<- | [<- | []]]; apply fits_in_one_dimension].
  intros now_it. lapply now_it; [| simpl; tauto]. intros rest. specialize (rest ltac:(lra) MM_step_is_a_layer_step).
  simpl map in rest. lra.
Qed.
