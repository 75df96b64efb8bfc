(** A3 and S36: what separation does and does not do for the storage of patterns by mean shift. *)

From Coq Require Import Reals List Lra Lia.
From Memlm Require Import Definitions Sums LogSumExp Energies Layers Descent Sharper.
Import ListNotations.
Open Scope R_scope.

(** A3: disjoint balls need not store. That of radius 1/4 around 1/2, beside the pattern -1/2, has no fixed point in R^1. *)
Theorem A3_no_fixed_point : forall x, (x - 1 / 2) ^ 2 <= (1 / 4) ^ 2 -> mean_shift [x] [[- (1 / 2)]; [1 / 2]] <> [x].
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
Theorem A3_printed_is_false :
  ~ (forall patterns r, 0 < r ->
     (forall rho rho', In rho patterns -> In rho' patterns -> rho <> rho' -> (2 * r) ^ 2 < sq_distance rho rho') ->
     forall rho, In rho patterns ->
     exists x, length x = length rho /\ sq_distance x rho <= r ^ 2 /\ mean_shift x patterns = x).
Proof.
  intros claimed. destruct (claimed [[- (1 / 2)]; [1 / 2]] (1 / 4) ltac:(lra)) with (rho := [1 / 2])
    as ([| x [| y ys]] & Hlen & near & fixed); try easy.
  - intros rho rho' [<- | [<- | []]] [<- | [<- | []]] apart; try easy; rewrite sq_distance_in_one_dimension; lra.
  - simpl. tauto.
  - rewrite sq_distance_in_one_dimension in near. now apply (A3_no_fixed_point x near).
Qed.
