(** MM: a layer that holds its own patterns takes steps that can raise E_global, so its steps are no MM scheme for it. *)

From Coq Require Import Reals List Lra Lia.
From Memlm Require Import Definitions Sums LogSumExp.
Import ListNotations.
Open Scope R_scope.

(** E8, which does hold: min_t E_t - log l <= E_global <= min_t E_t with E_t = g_t; so every layer majorises E_global. *)
Theorem E8_bounds : forall x layers, layers <> [] ->
  minimum (map (g x) layers) - ln (count layers) <= E_global x layers <= minimum (map (g x) layers).
Proof.
  intros x layers H. pose proof (map_nonempty layers (g x) H) as Hg.
  unfold E_global. rewrite <- (map_map (g x) Ropp).
  pose proof (L3_lower _ Hg) as lower. pose proof (L3_upper _ Hg). unfold count in *. rewrite map_length in lower. lra.
Qed.

Lemma g_in_one_dimension : forall x rho, g [x] [[rho]] = (x - rho) ^ 2.
Proof. intros. unfold g, sq_distance, sum. simpl. ring. Qed.

(** The counterexample: layers {0} and {2} in R^1. The second, from x = 0 within delta = 1, moves to x' = 1 ... *)
Theorem MM_step_is_a_layer_step : layer_step 1 [[2]] [0] [1].
Proof.
  repeat split; [unfold sq_distance, sum; simpl; lra |]. intros [| y [| z ys]] Hy Hnear; try easy.
  rewrite 2 g_in_one_dimension. unfold sq_distance, sum in Hnear. simpl in Hnear. nra.
Qed.

(** ... while E_global goes from - log (1 + e^-4) to 1 - log 2 ... *)
Theorem MM_values : E_global [0] [[[0]]; [[2]]] = - ln (1 + exp (-4)) /\ E_global [1] [[[0]]; [[2]]] = 1 - ln 2.
Proof.
  unfold E_global. split; cbn [map]; rewrite 2 g_in_one_dimension; unfold LSE, sum; cbn [map fold_right]; rewrite Rplus_0_r.
  - replace (- (0 - 0) ^ 2) with 0 by ring. replace (- (0 - 2) ^ 2) with (-4) by ring. now rewrite exp_0.
  - replace (- (1 - 0) ^ 2) with (-1) by ring. replace (- (1 - 2) ^ 2) with (-1) by ring.
    replace (exp (-1) + exp (-1)) with (2 * exp (-1)) by ring. rewrite ln_mult, ln_exp by (lra || apply exp_pos). ring.
Qed.

(** ... that is, up. *)
Theorem MM_energy_rises : E_global [0] [[[0]]; [[2]]] < 0 < E_global [1] [[[0]]; [[2]]].
Proof.
  destruct MM_values as [-> ->]. pose proof (exp_pos (-4)). split.
  - assert (ln 1 < ln (1 + exp (-4))) by (apply ln_increasing; lra). rewrite ln_1 in *. lra.
  - assert (ln 2 < ln (exp 1)) by (apply ln_increasing; [lra | pose proof (exp_ineq1 1); lra]). rewrite ln_exp in *. lra.
Qed.

(** MM as claimed is false: a step (6) of a layer, with E_t = g_t, need not lower E_global. *)
Theorem MM_claimed_is_false :
  ~ (forall layers D delta x x', (forall D, In D layers -> fits x D) -> In D layers -> 0 < delta ->
     layer_step delta D x x' -> E_global x' layers <= E_global x layers).
Proof.
  intros claimed. specialize (claimed [[[0]]; [[2]]] [[2]] 1 [0] [1]). pose proof MM_energy_rises.
  enough (E_global [1] [[[0]]; [[2]]] <= E_global [0] [[[0]]; [[2]]]) by lra.
  apply claimed; [| simpl; tauto | lra | exact MM_step_is_a_layer_step].
  intros D [<- | [<- | []]]; (split; [easy |]); intros rho [<- | []]; reflexivity.
Qed.
