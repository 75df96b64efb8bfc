(** L1-L4: convexity, bounds and Lipschitz constant of log-sum-exp, for every n. *)

From Coq Require Import Reals List Lra Lia.
From Memlm Require Import Definitions Sums.
Import ListNotations.
Open Scope R_scope.

Lemma ln_le : forall a b, 0 < a -> a <= b -> ln a <= ln b.
Proof. intros a b Ha [H | ->]; [left; now apply ln_increasing | right; reflexivity]. Qed.

Lemma exp_le : forall a b, a <= b -> exp a <= exp b.
Proof. intros a b [H | ->]; [left; now apply exp_increasing | right; reflexivity]. Qed.

Lemma sum_exp_positive : forall {A : Type} (l : list A) f, l <> [] -> 0 < sum (map (fun a => exp (f a)) l).
Proof. intros A l f H. apply sum_positive; [exact H | intros a; apply exp_pos]. Qed.

Lemma exp_LSE : forall xs, xs <> [] -> exp (LSE xs) = sum (map exp xs).
Proof. intros xs H. apply exp_ln. now apply (sum_exp_positive xs (fun x => x)). Qed.

Lemma LSE_at_of_map : forall {A : Type} beta (l : list A) f,
  LSE_at beta (map f l) = ln (sum (map (fun a => exp (beta * f a)) l)) / beta.
Proof. intros. unfold LSE_at. now rewrite map_map. Qed.

Lemma LSE_of_map : forall {A : Type} (l : list A) f, LSE (map f l) = ln (sum (map (fun a => exp (f a)) l)).
Proof. intros. unfold LSE. now rewrite map_map. Qed.

(** L1. exp lies above its tangent at t a + (1 - t) b, hence below its chord; LSE is then handled by normalising. *)
Lemma exp_convex : forall t a b, 0 <= t <= 1 -> exp (t * a + (1 - t) * b) <= t * exp a + (1 - t) * exp b.
Proof.
  intros t a b Ht. set (c := t * a + (1 - t) * b).
  assert (tangent : forall u, exp c * (1 + (u - c)) <= exp u).
  { intros u. replace (exp u) with (exp c * exp (u - c)) by (rewrite <- exp_plus; f_equal; ring).
    apply Rmult_le_compat_l; [left; apply exp_pos | apply exp_ineq1_le]. }
  replace (exp c) with (t * (exp c * (1 + (a - c))) + (1 - t) * (exp c * (1 + (b - c)))) by (unfold c; ring).
  apply Rplus_le_compat; apply Rmult_le_compat_l; try lra; apply tangent.
Qed.

Lemma sum_exp_normalised : forall {A : Type} (l : list A) f, l <> [] -> sum (map (fun a => exp (f a - LSE (map f l))) l) = 1.
Proof.
  intros A l f H. set (s := LSE (map f l)).
  assert (Hs : exp s = sum (map (fun a => exp (f a)) l)).
  { unfold s. rewrite exp_LSE by now apply map_nonempty. now rewrite map_map. }
  rewrite (map_ext _ (fun a => / exp s * exp (f a))) by (intros a; unfold Rminus; rewrite exp_plus, exp_Ropp; ring).
  rewrite sum_scale, <- Hs. field. pose proof (exp_pos s). lra.
Qed.

(** L1: LSE(t x + (1 - t) y) <= t LSE(x) + (1 - t) LSE(y) for every n, all x and y in R^n and every t in [0, 1]. *)
Theorem L1_convex : forall t xs ys,
  0 <= t <= 1 -> xs <> [] -> length xs = length ys -> LSE (mix t xs ys) <= t * LSE xs + (1 - t) * LSE ys.
Proof.
  intros t xs ys Ht Hne Hlen. destruct (sides_of_pairs xs ys Hlen) as [Hx Hy].
  set (l := combine xs ys) in *. assert (Hl : l <> []) by now apply pairs_nonempty.
  set (a := LSE xs). set (b := LSE ys). set (c := t * a + (1 - t) * b).
  assert (H : sum (map (fun p => exp (t * fst p + (1 - t) * snd p - c)) l) <= 1).
  { apply Rle_trans with (sum (map (fun p => t * exp (fst p - a) + (1 - t) * exp (snd p - b)) l)).
    - apply sum_le. intros p _.
      replace (t * fst p + (1 - t) * snd p - c) with (t * (fst p - a) + (1 - t) * (snd p - b)) by (unfold c; ring).
      now apply exp_convex.
    - rewrite sum_plus, 2 sum_scale. unfold a, b. rewrite <- Hx, <- Hy. rewrite 2 sum_exp_normalised by exact Hl. lra. }
  unfold mix. fold l. rewrite (map_ext _ (fun p => t * fst p + (1 - t) * snd p)) by now intros [].
  rewrite LSE_of_map. fold c. rewrite <- (ln_exp c). apply ln_le; [now apply sum_exp_positive |].
  rewrite (map_ext _ (fun p => / exp c * exp (t * fst p + (1 - t) * snd p))) in H
    by (intros p; unfold Rminus; rewrite exp_plus, exp_Ropp; ring).
  rewrite sum_scale in H. pose proof (exp_pos c) as Hc.
  apply Rmult_le_reg_l with (/ exp c); [now apply Rinv_0_lt_compat |]. rewrite Rinv_l by lra. exact H.
Qed.

(** L1, why the convexity is not strict: adding one number to every entry adds it to LSE. *)
Theorem L1_flat_along_ones : forall c xs, xs <> [] -> LSE (map (fun x => x + c) xs) = LSE xs + c.
Proof.
  intros c xs H. rewrite LSE_of_map.
  rewrite (map_ext _ (fun x => exp c * exp x)) by (intros x; rewrite exp_plus; ring).
  rewrite sum_scale, ln_mult, ln_exp; [unfold LSE; ring | apply exp_pos | now apply (sum_exp_positive xs (fun x => x))].
Qed.

(** L2: max x <= LSE(x) for every n >= 1. *)
Theorem L2_lower : forall xs, xs <> [] -> maximum xs <= LSE xs.
Proof.
  intros xs H. rewrite <- (ln_exp (maximum xs)). apply ln_le; [apply exp_pos |].
  apply (term_le_sum xs exp); [now apply maximum_is_entry | apply exp_pos].
Qed.

(** L2: max x < LSE(x), strictly, for every n >= 2. *)
Theorem L2_lower_strict : forall xs, (2 <= length xs)%nat -> maximum xs < LSE xs.
Proof.
  intros xs H. rewrite <- (ln_exp (maximum xs)). apply ln_increasing; [apply exp_pos |].
  apply (term_lt_sum xs exp); [apply maximum_is_entry; now intros -> | exact H | apply exp_pos].
Qed.

(** L2: LSE(x) <= max x + log n for every n >= 1. *)
Theorem L2_upper : forall xs, xs <> [] -> LSE xs <= maximum xs + ln (count xs).
Proof.
  intros xs H. assert (Hn : 0 < count xs) by (destruct xs; [easy |]; apply lt_0_INR; simpl; lia).
  rewrite <- (ln_exp (maximum xs)), <- ln_mult, Rmult_comm by (assumption || apply exp_pos).
  apply ln_le; [now apply (sum_exp_positive xs (fun x => x)) |]. rewrite <- sum_constant. apply sum_le.
  intros x Hx. apply exp_le. now apply maximum_bounds.
Qed.

(** L2: LSE(x) = x at n = 1, so the strict inequality as printed, for every n, is false. *)
Theorem L2_strict_is_false_at_1 :
  (forall x, LSE [x] = maximum [x]) /\ ~ (forall xs, xs <> [] -> maximum xs < LSE xs).
Proof.
  assert (H : forall x, LSE [x] = maximum [x]) by (intros x; unfold LSE; simpl; rewrite Rplus_0_r; apply ln_exp).
  split; [exact H |]. intros strict. specialize (strict [0] ltac:(easy)). rewrite H in strict. lra.
Qed.

Lemma length_opposite : forall xs, count (map Ropp xs) = count xs.
Proof. intros xs. unfold count. now rewrite map_length. Qed.

(** L3: min x - log n <= - LSE(- x) for every n >= 1. *)
Theorem L3_lower : forall xs, xs <> [] -> minimum xs - ln (count xs) <= - LSE (map Ropp xs).
Proof.
  intros xs H. rewrite minimum_is_opposite_of_maximum by exact H.
  pose proof (L2_upper (map Ropp xs) (map_nonempty xs Ropp H)) as L2. rewrite length_opposite in L2. lra.
Qed.

(** L3: - LSE(- x) <= min x for every n >= 1. *)
Theorem L3_upper : forall xs, xs <> [] -> - LSE (map Ropp xs) <= minimum xs.
Proof.
  intros xs H. rewrite minimum_is_opposite_of_maximum by exact H.
  pose proof (L2_lower (map Ropp xs) (map_nonempty xs Ropp H)). lra.
Qed.

(** L3: - LSE(- x) < min x, strictly, for every n >= 2. *)
Theorem L3_upper_strict : forall xs, (2 <= length xs)%nat -> - LSE (map Ropp xs) < minimum xs.
Proof.
  intros xs H. rewrite minimum_is_opposite_of_maximum by now intros ->.
  pose proof (L2_lower_strict (map Ropp xs) ltac:(now rewrite map_length)). lra.
Qed.

(** L3: - LSE(- x) = x at n = 1, so the strict inequality as printed, for every n, is false. *)
Theorem L3_strict_is_false_at_1 :
  (forall x, - LSE (map Ropp [x]) = minimum [x]) /\ ~ (forall xs, xs <> [] -> - LSE (map Ropp xs) < minimum xs).
Proof.
  assert (H : forall x, - LSE (map Ropp [x]) = minimum [x])
    by (intros x; unfold LSE; simpl; rewrite Rplus_0_r, ln_exp; ring).
  split; [exact H |]. intros strict. specialize (strict [0] ltac:(easy)). rewrite H in strict. simpl in strict. lra.
Qed.

(** If every entry exceeds its fellow by at most hi then so does LSE, at every inverse temperature. *)
Lemma LSE_at_rises_by_at_most : forall {A : Type} beta (l : list A) f h hi,
  0 < beta -> l <> [] -> (forall a, In a l -> f a - h a <= hi) -> LSE_at beta (map f l) - LSE_at beta (map h l) <= hi.
Proof.
  intros A beta l f h hi Hb Hl H. rewrite 2 LSE_at_of_map.
  assert (Hs : ln (sum (map (fun a => exp (beta * f a)) l)) <= beta * hi + ln (sum (map (fun a => exp (beta * h a)) l))).
  { rewrite <- (ln_exp (beta * hi)), <- ln_mult; [| apply exp_pos | now apply sum_exp_positive].
    apply ln_le; [now apply sum_exp_positive |]. rewrite <- sum_scale. apply sum_le. intros a Ha. rewrite <- exp_plus.
    apply exp_le. specialize (H a Ha). nra. }
  apply Rmult_le_reg_l with beta; [exact Hb |]. field_simplify; lra.
Qed.

Lemma LSE_at_1 : forall xs, LSE_at 1 xs = LSE xs.
Proof. intros xs. unfold LSE_at, LSE. rewrite (map_ext _ exp) by (intros; f_equal; ring). field. Qed.

(** L4, two-sided: min (x - y) <= LSE(x) - LSE(y) <= max (x - y). *)
Theorem L4_two_sided : forall xs ys, xs <> [] -> length xs = length ys ->
  minimum (differences xs ys) <= LSE xs - LSE ys <= maximum (differences xs ys).
Proof.
  intros xs ys Hne Hlen. destruct (sides_of_pairs xs ys Hlen) as [Hx Hy]. unfold differences.
  set (l := combine xs ys) in *. assert (Hl : l <> []) by now apply pairs_nonempty.
  assert (member : forall p, In p l -> In (fst p - snd p) (map (fun '(x, y) => x - y) l))
    by (intros p Hp; apply in_map_iff; exists p; now destruct p).
  rewrite <- 2 LSE_at_1, <- Hx, <- Hy. split.
  - apply Ropp_le_cancel. rewrite Ropp_minus_distr. apply LSE_at_rises_by_at_most; [lra | exact Hl |].
    intros p Hp. pose proof (minimum_bounds _ _ (member p Hp)). lra.
  - apply LSE_at_rises_by_at_most; [lra | exact Hl |].
    intros p Hp. pose proof (maximum_bounds _ _ (member p Hp)). lra.
Qed.

(** L4: |LSE(x) - LSE(y)| <= max_i |x_i - y_i| for every n. *)
Theorem L4_lipschitz : forall xs ys, xs <> [] -> length xs = length ys -> Rabs (LSE xs - LSE ys) <= sup_distance xs ys.
Proof.
  intros xs ys Hne Hlen. destruct (L4_two_sided xs ys Hne Hlen) as [lo hi].
  assert (Hd : differences xs ys <> []) by (apply map_nonempty; now apply pairs_nonempty).
  pose proof (maximum_bounds _ _ (in_map Rabs _ _ (minimum_is_entry _ Hd))) as Hmin.
  pose proof (maximum_bounds _ _ (in_map Rabs _ _ (maximum_is_entry _ Hd))) as Hmax. fold (sup_distance xs ys) in *.
  unfold Rabs in *. repeat destruct Rcase_abs in *; lra.
Qed.
