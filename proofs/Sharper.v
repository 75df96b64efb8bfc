(** When the bounds on LSE are equalities, what that says of a memoriser's loss, and what the MCHN energy is near. *)

From Coq Require Import Reals List Lra Lia.
From Memlm Require Import Definitions Sums LogSumExp Energies.
Import ListNotations.
Open Scope R_scope.

Definition constant (xs : list R) : Prop := forall a b, In a xs -> In b xs -> a = b.

Lemma equal_sums : forall {A : Type} (l : list A) f u, (forall a, In a l -> f a <= u a) ->
  sum (map f l) = sum (map u l) -> forall a, In a l -> f a = u a.
Proof.
  intros A l f u Hle Heq. induction l as [| b l IH]; [easy |].
  assert (Hl : forall a, In a l -> f a <= u a) by (intros; apply Hle; now right).
  pose proof (sum_le l f u Hl) as rest. pose proof (Hle b (or_introl eq_refl)) as first.
  unfold sum in *. simpl in Heq. intros a [<- | Ha]; [lra | apply IH; [exact Hl | lra | exact Ha]].
Qed.

(** If no entry exceeds its fellow by more than m and LSE still rises by m, then every entry exceeds its fellow by m. *)
Lemma rises_by_the_most : forall {A : Type} (l : list A) f u m, l <> [] -> (forall a, In a l -> f a - u a <= m) ->
  LSE (map f l) - LSE (map u l) = m -> forall a, In a l -> f a - u a = m.
Proof.
  intros A l f u m Hl Hle Hm a Ha. apply Rminus_diag_uniq.
  enough (exp (f a) = exp (m + u a)) by (apply exp_inv in H; lra). revert a Ha. apply equal_sums.
  - intros a Ha. apply exp_le. specialize (Hle a Ha). lra.
  - rewrite (map_ext (fun a => exp (m + u a)) (fun a => exp m * exp (u a))) by (intros; apply exp_plus).
    rewrite sum_scale, <- (map_map f exp), <- (map_map u exp), <- 2 exp_LSE, <- exp_plus by now apply map_nonempty.
    f_equal. lra.
Qed.

(** S13, the case of equality: LSE(x) - LSE(y) = max (x - y) iff x - y is constant, and likewise for min. *)
Theorem S13_equality : forall xs ys, xs <> [] -> length xs = length ys ->
  (LSE xs - LSE ys = maximum (differences xs ys) <-> constant (differences xs ys)) /\
  (LSE xs - LSE ys = minimum (differences xs ys) <-> constant (differences xs ys)).
Proof.
  intros xs ys Hne Hlen. pose proof (L4_two_sided xs ys Hne Hlen) as bounds.
  destruct (sides_of_pairs xs ys Hlen) as [Hx Hy].
  unfold differences in *. set (l := combine xs ys) in *. assert (Hl : l <> []) by now apply pairs_nonempty.
  rewrite (map_ext _ (fun p => fst p - snd p)) in * by now intros [].
  set (ds := map (fun p => fst p - snd p) l) in *. assert (Hd : ds <> []) by now apply map_nonempty.
  assert (flat : constant ds -> minimum ds = maximum ds)
    by (intros H; apply H; [now apply minimum_is_entry | now apply maximum_is_entry]).
  assert (all : forall m, (forall p, In p l -> fst p - snd p = m) -> constant ds).
  { intros m H a b Ha Hb. apply in_map_iff in Ha as (p & <- & Hp), Hb as (q & <- & Hq). now rewrite (H p), (H q). }
  rewrite <- Hx, <- Hy in *. split; (split; [intros H | intros H; apply flat in H; lra]).
  - apply (all (maximum ds)). apply rises_by_the_most; [exact Hl | | exact H].
    intros p Hp. apply maximum_bounds. now apply (in_map (fun p => fst p - snd p)).
  - apply (all (minimum ds)). intros p Hp. enough (snd p - fst p = - minimum ds) by lra. revert p Hp.
    apply rises_by_the_most; [exact Hl | | lra].
    intros p Hp. pose proof (minimum_bounds _ _ (in_map (fun p => fst p - snd p) _ _ Hp)). fold ds in H0. lra.
Qed.

(** S12: mean(x) + log n <= LSE(x), with equality iff x is constant. *)
Theorem S12 : forall xs, xs <> [] ->
  sum xs / count xs + ln (count xs) <= LSE xs /\ (sum xs / count xs + ln (count xs) = LSE xs <-> constant xs).
Proof.
  intros xs H. set (m := sum xs / count xs).
  assert (Hn : 0 < count xs) by (destruct xs; [easy |]; apply lt_0_INR; simpl; lia).
  assert (parts : LSE xs - m = ln (sum (map (fun x => exp (x - m)) xs))).
  { rewrite <- (LSE_of_map xs (fun x => x - m)).
    pose proof (L1_flat_along_ones (- m) xs H) as shift. unfold Rminus in *. lra. }
  assert (tangents : sum (map (fun x => 1 + (x - m)) xs) = count xs).
  { rewrite (map_ext _ (fun x => (1 - m) + x)) by (intros; ring).
    rewrite sum_plus, sum_constant, map_id. unfold m. field. lra. }
  assert (above : count xs <= sum (map (fun x => exp (x - m)) xs))
    by (rewrite <- tangents; apply sum_le; intros; apply exp_ineq1_le).
  assert (low : ln (count xs) <= ln (sum (map (fun x => exp (x - m)) xs))) by now apply ln_le.
  split; [lra |]. split.
  - intros Heq. assert (Hsum : count xs = sum (map (fun x => exp (x - m)) xs)) by (apply ln_inv; lra).
    rewrite <- tangents in Hsum at 1. intros a b Ha Hb.
    assert (tight : forall x, In x xs -> x = m).
    { intros x Hx. pose proof (equal_sums xs _ _ (fun x _ => exp_ineq1_le (x - m)) Hsum x Hx) as touch.
      destruct (Req_dec (x - m) 0) as [zero | apart]; [lra | pose proof (exp_ineq1 (x - m) apart); lra]. }
    now rewrite (tight a Ha), (tight b Hb).
  - intros Hconst. destruct xs as [| a xs]; [easy |].
    assert (same : forall x, In x (a :: xs) -> x = a) by (intros; apply Hconst; [assumption | now left]).
    assert (Hsum : sum (map (fun x => x) (a :: xs)) = count (a :: xs) * a)
      by (rewrite <- sum_constant; f_equal; now apply map_ext_in).
    rewrite map_id in Hsum. assert (Hm : m = a) by (unfold m; rewrite Hsum; field; lra).
    rewrite (map_ext_in _ (fun _ => 1)) in parts
      by (intros x Hx; rewrite (same x Hx), Hm, <- exp_0; f_equal; ring).
    rewrite sum_constant, Rmult_1_r in parts. lra.
Qed.

(** S60: a law that gives d sequences the probabilities q_i > 0 pays - mean log q_i >= log d on them, with equality iff it is
    the lookup table, q_i = 1/d for all i. *)
Theorem S60 : forall qs, qs <> [] -> (forall q, In q qs -> 0 < q) -> sum qs <= 1 ->
  ln (count qs) <= - (sum (map ln qs) / count qs) /\
  (ln (count qs) = - (sum (map ln qs) / count qs) <-> forall q, In q qs -> q = / count qs).
Proof.
  intros qs Hne Hpos Hsum. assert (Hn : 0 < count qs) by (destruct qs; [easy |]; apply lt_0_INR; simpl; lia).
  destruct (S12 (map ln qs) (map_nonempty qs ln Hne)) as [bound equality].
  assert (total : LSE (map ln qs) = ln (sum qs)).
  { unfold LSE. rewrite map_map, (map_ext_in _ (fun q => q)), map_id; [reflexivity |]. intros q Hq. now apply exp_ln, Hpos. }
  assert (Hlaw : ln (sum qs) <= 0).
  { rewrite <- ln_1. apply ln_le; [| exact Hsum].
    rewrite <- (map_id qs). rewrite (map_ext_in _ (fun q => exp (ln q))) by (intros; symmetry; now apply exp_ln, Hpos).
    now apply (sum_exp_positive qs). }
  replace (count (map ln qs)) with (count qs) in * by (unfold count; now rewrite map_length).
  split; [lra |]. split.
  - intros Heq. assert (Hconst : constant (map ln qs)) by (apply equality; lra). intros q Hq.
    assert (Hmean : sum (map ln qs) = count qs * ln q).
    { rewrite <- sum_constant. f_equal. apply map_ext_in. intros p Hp. apply Hconst; now apply in_map. }
    rewrite Hmean in Heq. apply ln_inv; [now apply Hpos | now apply Rinv_0_lt_compat |]. rewrite ln_Rinv by exact Hn.
    rewrite Heq. field. lra.
  - intros Hq. rewrite (map_ext_in _ (fun _ => ln (/ count qs))) by (intros q H; now rewrite (Hq q H)).
    rewrite sum_constant, ln_Rinv by exact Hn. field. lra.
Qed.

Lemma sq_norm_nonnegative : forall x, 0 <= sq_norm x.
Proof. intros x. apply sum_nonnegative. intros a. apply pow2_ge_0. Qed.

Lemma cauchy_schwarz : forall a b, length a = length b -> dot a b ^ 2 <= sq_norm a * sq_norm b.
Proof.
  intros a b Hlen. pose proof (sq_norm_nonnegative a) as Ha.
  assert (square : forall s t, 0 <= s ^ 2 * sq_norm a - 2 * s * t * dot a b + t ^ 2 * sq_norm b).
  { intros s t. clear Ha. unfold sq_norm, dot, sum. revert b Hlen.
    induction a as [| u a IH]; intros [| v b] Hlen; try easy; [simpl; lra |]. injection Hlen as Hlen. specialize (IH b Hlen).
    cbn [map combine fold_right]. pose proof (pow2_ge_0 (s * u - t * v)). nra. }
  destruct Ha as [Ha | zero].
  - pose proof (square (dot a b) (sq_norm a)) as H. apply Rmult_le_reg_l with (sq_norm a); nra.
  - destruct (Req_dec (dot a b) 0) as [-> | apart]; [rewrite <- zero; lra | exfalso].
    pose proof (square ((sq_norm b + 1) / (2 * dot a b)) 1) as H. rewrite <- zero in H.
    replace (2 * ((sq_norm b + 1) / (2 * dot a b)) * 1 * dot a b) with (sq_norm b + 1) in H by (field; lra). lra.
Qed.

Lemma dot_below_norms : forall a b, length a = length b -> dot a b <= sqrt (sq_norm a) * sqrt (sq_norm b).
Proof.
  intros a b Hlen. rewrite <- sqrt_mult by apply sq_norm_nonnegative. eapply Rle_trans; [apply Rle_abs |].
  rewrite <- sqrt_Rsqr_abs. apply sqrt_le_1_alt. rewrite Rsqr_pow2. now apply cauchy_schwarz.
Qed.

Lemma dot_differences : forall x y v, length x = length y -> dot (differences x y) v = dot x v - dot y v.
Proof.
  unfold dot, differences, sum. induction x as [| a x IH]; intros [| b y] [| e v] H; try easy; try (simpl; ring).
  cbn [combine map fold_right]. rewrite IH by (now injection H). ring.
Qed.

Lemma sq_norm_differences : forall x y, sq_norm (differences x y) = sq_distance x y.
Proof. intros. unfold sq_norm, differences, sq_distance. rewrite map_map. f_equal. apply map_ext. now intros []. Qed.

(** S32: the MCHN energy is a smooth search for the largest inner product, h/2 <= E_MCHN <= h/2 + (log d)/beta, and
    E_MCHN >= (|x| - max |rho|)^2 / 2. *)
Theorem S32 : forall beta x patterns, 0 < beta -> fits x patterns ->
  h x patterns / 2 <= E_MCHN beta x patterns <= h x patterns / 2 + ln (count patterns) / beta /\
  (sqrt (sq_norm x) - sqrt (max_sq_norm patterns)) ^ 2 / 2 <= E_MCHN beta x patterns.
Proof.
  intros beta x patterns Hb [Hne Hlen]. set (products := map (fun rho => dot rho x) patterns).
  assert (Hp : products <> []) by now apply map_nonempty.
  assert (Hcount : count products = count patterns) by (unfold count, products; now rewrite map_length).
  set (scaled := map (fun y => beta * y) products). assert (Hs : scaled <> []) by now apply map_nonempty.
  assert (value : beta * LSE_at beta products = LSE scaled)
    by (unfold LSE_at, LSE, scaled; rewrite map_map; field; lra).
  assert (top : maximum scaled = beta * maximum products).
  { apply Rle_antisym.
    - pose proof (maximum_is_entry _ Hs) as Hin. apply in_map_iff in Hin as (y & <- & Hy).
      apply Rmult_le_compat_l; [lra | now apply maximum_bounds].
    - apply maximum_bounds. apply (in_map (fun y => beta * y)). now apply maximum_is_entry. }
  pose proof (L2_lower scaled Hs) as low. pose proof (L2_upper scaled Hs) as high. rewrite top, <- value in *.
  replace (count scaled) with (count patterns) in high by (rewrite <- Hcount; unfold count, scaled; now rewrite map_length).
  assert (low' : maximum products <= LSE_at beta products) by (apply Rmult_le_reg_l with beta; lra).
  assert (high' : LSE_at beta products <= maximum products + ln (count patterns) / beta).
  { apply Rmult_le_reg_l with beta; [exact Hb |]. replace (beta * (maximum products + ln (count patterns) / beta))
      with (beta * maximum products + ln (count patterns)) by (field; lra). exact high. }
  unfold h, E_MCHN. fold products.
  assert (Hh : maximum products <= sqrt (sq_norm x) * sqrt (max_sq_norm patterns)).
  { pose proof (maximum_is_entry _ Hp) as Hin. apply in_map_iff in Hin as (rho & <- & Hrho).
    eapply Rle_trans; [apply dot_below_norms; now apply Hlen |]. rewrite Rmult_comm.
    apply Rmult_le_compat_l; [apply sqrt_pos |]. apply sqrt_le_1_alt, maximum_bounds. now apply in_map. }
  assert (Hmax : 0 <= max_sq_norm patterns).
  { pose proof (maximum_is_entry _ (map_nonempty patterns sq_norm Hne)) as Hin. unfold max_sq_norm.
    apply in_map_iff in Hin as (rho & <- & _). apply sq_norm_nonnegative. }
  pose proof (sqrt_sqrt _ (sq_norm_nonnegative x)). pose proof (sqrt_sqrt _ Hmax). repeat split; lra.
Qed.

Lemma sq_distance_zero : forall x y, length x = length y -> (sq_distance x y = 0 <-> x = y).
Proof.
  assert (nonnegative : forall x y, 0 <= sq_distance x y).
  { intros x y. apply sum_nonnegative. intros []. apply pow2_ge_0. }
  induction x as [| a x IH]; intros [| b y] Hlen; try easy. injection Hlen as Hlen. specialize (IH y Hlen).
  specialize (nonnegative x y). change (sq_distance (a :: x) (b :: y)) with ((a - b) ^ 2 + sq_distance x y).
  pose proof (pow2_ge_0 (a - b)). split.
  - intros Hsum. assert (sq_distance x y = 0) by lra. replace b with a by nra. f_equal. now apply IH.
  - intros [= -> ->]. rewrite (proj2 IH eq_refl). ring.
Qed.

(** E3: g is 0 exactly at the patterns. *)
Theorem E3 : forall x patterns, fits x patterns -> (g x patterns = 0 <-> In x patterns).
Proof.
  intros x patterns [Hne Hlen]. unfold g. split; intros H.
  - pose proof (minimum_is_entry _ (map_nonempty patterns (sq_distance x) Hne)) as Hin. rewrite H in Hin.
    apply in_map_iff in Hin as (rho & zero & Hrho). apply sq_distance_zero in zero; [now subst | symmetry; now apply Hlen].
  - apply Rle_antisym; [| now apply g_nonnegative]. rewrite <- (proj2 (sq_distance_zero x x eq_refl) eq_refl).
    apply minimum_bounds. now apply in_map.
Qed.

(** CV: - LSE is not convex: half way between (1, 0) and (0, 1) it lies above its own chord. *)
Theorem CV_minus_LSE_is_not_convex :
  ~ (forall t xs ys, 0 <= t <= 1 -> xs <> [] -> length xs = length ys ->
     - LSE (mix t xs ys) <= t * - LSE xs + (1 - t) * - LSE ys).
Proof.
  intros claimed. specialize (claimed (1 / 2) [1; 0] [0; 1] ltac:(lra) ltac:(easy) eq_refl).
  unfold LSE, mix, sum in claimed. cbn [map combine fold_right] in claimed.
  replace (1 / 2 * 1 + (1 - 1 / 2) * 0) with (1 / 2) in claimed by field.
  replace (1 / 2 * 0 + (1 - 1 / 2) * 1) with (1 / 2) in claimed by field. rewrite exp_0 in claimed.
  pose proof (exp_ineq1 (1 / 2) ltac:(lra)) as above. set (q := exp (1 / 2)) in *.
  assert (square : exp 1 = q * q) by (unfold q; rewrite <- exp_plus; f_equal; field). rewrite square in claimed.
  replace (q + (q + 0)) with (2 * q) in claimed by ring. replace (q * q + (1 + 0)) with (q * q + 1) in claimed by ring.
  replace (1 + (q * q + 0)) with (q * q + 1) in claimed by ring.
  assert (ln (2 * q) < ln (q * q + 1)) by (apply ln_increasing; nra). lra.
Qed.

(** CV: the MCHN energy of the one-dimensional patterns of Figure 1 at beta = 1 lies above its own chord from -1 to 1 ... *)
Theorem CV_figure_1_is_not_convex :
  E_MCHN 1 [-1] [[-2]; [0]; [1]] / 2 + E_MCHN 1 [1] [[-2]; [0]; [1]] / 2 < E_MCHN 1 [0] [[-2]; [0]; [1]].
Proof.
  unfold E_MCHN. rewrite 3 LSE_at_1. set (c := ln _ / 1). set (M := max_sq_norm _). unfold LSE, sq_norm, dot, sum.
  cbn [map combine fold_right].
  replace (-2 * -1 + 0) with 2 by ring. replace (0 * -1 + 0) with 0 by ring. replace (1 * -1 + 0) with (-1) by ring.
  replace (-2 * 1 + 0) with (-2) by ring. replace (0 * 1 + 0) with 0 by ring. replace (1 * 1 + 0) with 1 by ring.
  replace (-2 * 0 + 0) with 0 by ring. replace (0 * 0 + 0) with 0 by ring. replace (1 * 0 + 0) with 0 by ring. rewrite exp_0.
  replace (exp 2) with (exp 1 ^ 2) by (simpl; rewrite Rmult_1_r, <- exp_plus; f_equal; ring).
  assert (e : 12 / 5 <= exp 1).
  { replace 1 with (1 / 4 + 1 / 4 + (1 / 4 + 1 / 4)) at 1 by field. rewrite 2 exp_plus.
    pose proof (exp_ineq1_le (1 / 4)). assert (25 / 16 <= exp (1 / 4) * exp (1 / 4)) by nra. nra. }
  pose proof (exp_pos (-1)). pose proof (exp_pos (-2)). set (A := exp 1 ^ 2 + _). set (B := exp (-2) + _).
  assert (HA : exp 1 ^ 2 + 1 <= A) by (unfold A; lra). assert (HB : exp 1 + 1 <= B) by (unfold B; lra).
  assert (below : (exp 1 ^ 2 + 1) * (exp 1 + 1) <= A * B) by (apply Rmult_le_compat; nra).
  assert (product : 9 * exp 1 < (exp 1 ^ 2 + 1) * (exp 1 + 1)) by nra. assert (0 < A) by nra. assert (0 < B) by lra.
  assert (logs : ln (3 * 3 * exp 1) < ln (A * B)) by (apply ln_increasing; lra).
  rewrite 3 ln_mult, ln_exp in logs by lra. replace (1 + (1 + (1 + 0))) with 3 by ring. lra.
Qed.

(** ... so it is false that the MCHN energy is convex. *)
Theorem CV_claimed_is_false :
  ~ (forall beta x y patterns t, 0 < beta -> fits x patterns -> length x = length y -> 0 <= t <= 1 ->
     E_MCHN beta (mix t x y) patterns <= t * E_MCHN beta x patterns + (1 - t) * E_MCHN beta y patterns).
Proof.
  intros claimed. specialize (claimed 1 [-1] [1] [[-2]; [0]; [1]] (1 / 2) ltac:(lra)).
  pose proof CV_figure_1_is_not_convex as above.
  assert (Hfits : fits [-1] [[-2]; [0]; [1]]) by (split; [easy | intros rho [<- | [<- | [<- | []]]]; reflexivity]).
  specialize (claimed Hfits eq_refl ltac:(lra)). unfold mix in claimed. cbn [map combine] in claimed.
  replace (1 / 2 * -1 + (1 - 1 / 2) * 1) with 0 in claimed by field. lra.
Qed.
