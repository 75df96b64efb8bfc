(** When the energies are convex, for every n and d: by the second derivative along lines, in both directions. *)

From Coq Require Import Reals List Lra Lia.
From Coquelicot Require Import Coquelicot.
From Memlm Require Import Definitions Sums LogSumExp Energies Descent Sharper Calculus.
Import ListNotations.
Open Scope R_scope.

Definition convex (n : nat) (F : list R -> R) : Prop := forall t x y,
  length x = n -> length y = n -> 0 <= t <= 1 -> F (mix t x y) <= t * F x + (1 - t) * F y.

(** A function of one variable with a second derivative. *)
Section Line.
Variables f f' f'' : R -> R.
Hypothesis D1 : forall t, is_derive f t (f' t).
Hypothesis D2 : forall t, is_derive f' t (f'' t).

Lemma mean_value : forall (u u' : R -> R) a b, (forall t, is_derive u t (u' t)) -> a < b ->
  exists c, a <= c <= b /\ u b - u a = u' c * (b - a).
Proof.
  intros u u' a b D Hab. destruct (MVT_gen u a b u') as (c & Hc & value).
  - intros t _. apply D.
  - intros t _. apply continuity_pt_filterlim, (ex_derive_continuous u). now exists (u' t).
  - exists c. rewrite Rmin_left, Rmax_right in Hc by lra. now split.
Qed.

Lemma below_chord : (forall t, 0 <= f'' t) -> forall t, 0 <= t <= 1 -> f t <= t * f 1 + (1 - t) * f 0.
Proof.
  intros up t Ht. destruct (Req_dec t 0) as [-> | H0]; [lra |]. destruct (Req_dec t 1) as [-> | H1]; [lra |].
  destruct (mean_value f f' 0 t D1 ltac:(lra)) as (a & Ha & left_).
  destruct (mean_value f f' t 1 D1 ltac:(lra)) as (b & Hb & right_).
  assert (grows : f' a <= f' b).
  { destruct (Req_dec a b) as [-> | apart]; [lra |]. destruct (mean_value f' f'' a b D2 ltac:(lra)) as (c & _ & value).
    pose proof (up c). nra. }
  assert (0 <= t * (1 - t) * (f' b - f' a)) by (apply Rmult_le_pos; nra).
  replace (f 1) with (f t + f' b * (1 - t)) by lra. replace (f 0) with (f t - f' a * (t - 0)) by lra. nra.
Qed.

Lemma bends_up_if_midpoint_convex : (forall h, f 0 <= f h / 2 + f (- h) / 2) -> 0 <= f'' 0.
Proof.
  intros mid. apply Rnot_lt_le. intros down. pose proof (proj1 (is_derive_Reals f' 0 (f'' 0)) (D2 0)) as lim.
  destruct (lim (- f'' 0 / 2) ltac:(lra)) as [delta close].
  set (g := fun t => f t + f (- t)). set (g' := fun t => f' t - f' (- t)).
  assert (Dg : forall t, is_derive g t (g' t)).
  { intros t. unfold g, g'. replace (f' t - f' (- t)) with (plus (f' t) (scal (-1) (f' (- t))))
      by (unfold plus, scal; simpl; unfold mult; simpl; ring).
    apply (is_derive_plus f (fun t => f (- t))); [apply D1 |]. apply (is_derive_comp f); [apply D1 |].
    auto_derive; [easy | ring]. }
  pose proof (cond_pos delta) as Hdelta. set (s := delta / 2).
  assert (falls : forall c, 0 < c < delta -> g' c < 0).
  { intros c Hc. pose proof (close c ltac:(lra) ltac:(rewrite Rabs_pos_eq; lra)) as right_.
    pose proof (close (- c) ltac:(lra) ltac:(rewrite Rabs_left; lra)) as left_.
    rewrite Rplus_0_l in *. apply Rabs_def2 in right_, left_. unfold g'.
    assert ((f' c - f' 0) / c * c < f'' 0 / 2 * c) by (apply Rmult_lt_compat_r; lra).
    assert ((f' (- c) - f' 0) / - c * c < f'' 0 / 2 * c) by (apply Rmult_lt_compat_r; lra).
    replace ((f' c - f' 0) / c * c) with (f' c - f' 0) in * by (field; lra).
    replace ((f' (- c) - f' 0) / - c * c) with (- (f' (- c) - f' 0)) in * by (field; lra). nra. }
  destruct (mean_value g g' (s / 2) s Dg ltac:(unfold s; lra)) as (c & Hc & value).
  pose proof (falls c ltac:(unfold s in *; lra)).
  destruct (mean_value g g' 0 (s / 2) Dg ltac:(unfold s; lra)) as (b & Hb & value0).
  assert (g' b <= 0).
  { destruct (Req_dec b 0) as [-> | H0]; [unfold g'; rewrite Ropp_0; lra | left; apply falls; unfold s in *; lra]. }
  pose proof (mid s) as Hs. assert (0 < s) by (unfold s; lra).
  assert (g s < g 0) by nra. unfold g in *. rewrite Ropp_0 in *. lra.
Qed.
End Line.

Lemma mix_is_along : forall t x y, mix t x y = along y (differences x y) t.
Proof.
  unfold mix, along, differences. intros t. induction x as [| a x IH]; intros [| b y]; try easy.
  cbn [combine map]. rewrite IH. f_equal. ring.
Qed.

Lemma length_along : forall x v t, length v = length x -> length (along x v t) = length x.
Proof. intros. unfold along. rewrite map_length, combine_length. lia. Qed.

Lemma along_0 : forall x v, length v = length x -> along x v 0 = x.
Proof.
  unfold along. induction x as [| a x IH]; intros [| b v] H; try easy. cbn [combine map]. rewrite IH by (now injection H).
  f_equal. ring.
Qed.

Lemma along_1 : forall x y, length x = length y -> along y (differences x y) 1 = x.
Proof.
  unfold along, differences. induction x as [| a x IH]; intros [| b y] H; try easy. cbn [combine map].
  rewrite IH by (now injection H). f_equal. ring.
Qed.

Lemma midpoint : forall x v h, length v = length x -> mix (1 / 2) (along x v h) (along x v (- h)) = x.
Proof.
  unfold mix, along. induction x as [| a x IH]; intros [| b v] h H; try easy. cbn [combine map].
  rewrite IH by (now injection H). f_equal. field.
Qed.

Lemma dot_along : forall rho x v t, length rho = length x -> length v = length x ->
  dot rho (along x v t) = dot rho x + t * dot rho v.
Proof.
  unfold dot, along, sum. induction rho as [| r rho IH]; intros [| a x] [| b v] t Hr Hv; try easy; [simpl; ring |].
  cbn [combine map fold_right]. rewrite IH by (simpl in *; congruence). ring.
Qed.

Lemma dot_symmetric : forall x y, dot x y = dot y x.
Proof.
  unfold dot, sum. induction x as [| a x IH]; intros [| b y]; try easy. cbn [combine map fold_right]. rewrite IH. ring.
Qed.

Lemma sq_norm_along : forall x v t, length v = length x ->
  sq_norm (along x v t) = sq_norm x + 2 * t * dot x v + t ^ 2 * sq_norm v.
Proof.
  unfold sq_norm, dot, along, sum. induction x as [| a x IH]; intros [| b v] t Hv; try easy; [simpl; ring |].
  cbn [combine map fold_right]. rewrite IH by (simpl in *; congruence). ring.
Qed.

Lemma dot_scaled : forall p c v, dot p (map (fun a => c * a) v) = c * dot p v.
Proof.
  unfold dot, sum. induction p as [| b p IH]; intros c [| a v]; try (simpl; ring).
  cbn [combine map fold_right]. rewrite IH. ring.
Qed.

Lemma bend_scaled : forall ys c v, bend ys (map (fun a => c * a) v) = c ^ 2 * bend ys v.
Proof.
  intros ys c v. unfold bend. rewrite dot_scaled, map_map.
  rewrite (map_ext _ (fun a => c ^ 2 * a ^ 2)) by (intros; ring). rewrite <- (map_map (fun a => a ^ 2) (fun a => c ^ 2 * a)).
  rewrite dot_scaled. ring.
Qed.

(** kappa |x|^2 - log sum_i exp (c rho_i . x + o_i): what E and beta E_MCHN are, up to a constant. *)
Definition model (kappa c : R) (o : list R -> R) (patterns : list (list R)) (x : list R) : R :=
  kappa * sq_norm x - LSE (map (fun rho => c * dot rho x + o rho) patterns).

Section Model.
Variables (n : nat) (kappa c : R) (o : list R -> R) (patterns : list (list R)).
Hypothesis Hne : patterns <> [].
Hypothesis Hlen : forall rho, In rho patterns -> length rho = n.

Let scores x := map (fun rho => c * dot rho x + o rho) patterns.
Let products v := map (fun rho => dot rho v) patterns.

Lemma scores_along : forall x v t, length x = n -> length v = n ->
  scores (along x v t) = along (scores x) (map (fun a => c * a) (products v)) t.
Proof.
  intros x v t Hx Hv. unfold scores, products, along. rewrite map_map.
  assert (both : forall (l : list (list R)) (f u : list R -> R), map (fun '(y, a) => y + t * a) (combine (map f l) (map u l))
    = map (fun rho => f rho + t * u rho) l)
    by (intros l f u; induction l as [| r l IH]; simpl; congruence).
  rewrite both. apply map_ext_in. intros rho Hrho. change (map _ _) with (along x v t) at 1.
  rewrite dot_along by (rewrite ?(Hlen rho Hrho); congruence). ring.
Qed.

(** Its slope and second derivative along a line. *)
Lemma model_along : forall x v t, length x = n -> length v = n ->
  is_derive (fun t => model kappa c o patterns (along x v t)) t
    (kappa * (2 * dot x v + 2 * t * sq_norm v) - dot (softmax (scores (along x v t))) (map (fun a => c * a) (products v))) /\
  is_derive (fun t => kappa * (2 * dot x v + 2 * t * sq_norm v)
      - dot (softmax (scores (along x v t))) (map (fun a => c * a) (products v))) t
    (2 * kappa * sq_norm v - c ^ 2 * bend (scores (along x v t)) (products v)).
Proof.
  intros x v t Hx Hv. set (cv := map (fun a => c * a) (products v)).
  assert (Hs : scores x <> []) by now apply map_nonempty.
  assert (Hl : length (scores x) = length cv) by (unfold cv, scores, products; now rewrite !map_length).
  destruct (S10_second_derivative (scores x) cv t Hs Hl) as [first second]. split.
  - set (square := fun t => kappa * (sq_norm x + 2 * t * dot x v + t ^ 2 * sq_norm v)).
    apply is_derive_ext with (fun t => square t - LSE (along (scores x) cv t)).
    { intros s. unfold model, square. rewrite sq_norm_along by congruence. fold (scores (along x v s)).
      now rewrite scores_along. }
    rewrite scores_along by assumption. fold cv.
    apply (is_derive_minus square); [unfold square; auto_derive; [easy | ring] | exact first].
  - set (slope := fun t => kappa * (2 * dot x v + 2 * t * sq_norm v)).
    apply is_derive_ext with (fun t => slope t - dot (softmax (along (scores x) cv t)) cv).
    { intros s. now rewrite scores_along. }
    rewrite <- bend_scaled, scores_along by assumption. fold cv.
    apply (is_derive_minus slope); [unfold slope; auto_derive; [easy | ring] | exact second].
Qed.

(** It is convex iff its second derivative is nowhere negative. *)
Lemma model_convex_iff : convex n (model kappa c o patterns) <->
  forall x v, length x = n -> length v = n -> c ^ 2 * bend (scores x) (products v) <= 2 * kappa * sq_norm v.
Proof.
  split.
  - intros Hconvex x v Hx Hv.
    pose proof (bends_up_if_midpoint_convex _ _ _ (fun t => proj1 (model_along x v t Hx Hv))
      (fun t => proj2 (model_along x v t Hx Hv))) as up.
    cbv beta in up. rewrite along_0 in up by congruence. lapply up; [lra |]. intros h.
    assert (Hh : forall h, length (along x v h) = n) by (intros; rewrite length_along; congruence).
    pose proof (Hconvex (1 / 2) _ _ (Hh h) (Hh (- h)) ltac:(lra)) as mid. rewrite midpoint in mid by congruence. lra.
  - intros up t x y Hx Hy Ht. rewrite mix_is_along.
    assert (Hd : length (differences x y) = n) by (unfold differences; rewrite map_length, combine_length; lia).
    pose proof (below_chord _ _ _ (fun t => proj1 (model_along y _ t Hy Hd)) (fun t => proj2 (model_along y _ t Hy Hd)))
      as chord.
    cbv beta in chord. rewrite along_0, along_1 in chord by congruence. apply chord; [| exact Ht]. intros s.
    specialize (up (along y (differences x y) s) (differences x y)). rewrite length_along in up by congruence.
    specialize (up Hy Hd). lra.
Qed.
End Model.

(** The same for functions that differ by a factor and a constant. *)
Lemma convex_affine : forall n F G b k, 0 < b -> (forall x, length x = n -> G x = b * F x + k) ->
  (convex n F <-> convex n G).
Proof.
  intros n F G b k Hb H. assert (Hmix : forall t x y, length x = n -> length y = n -> length (mix t x y) = n)
    by (intros; unfold mix; rewrite map_length, combine_length; lia).
  split; intros Hc t x y Hx Hy Ht; specialize (Hc t x y Hx Hy Ht); pose proof (H x Hx); pose proof (H y Hy);
    pose proof (H _ (Hmix t x y Hx Hy)).
  - rewrite H0, H1, H2. nra.
  - rewrite H0, H1, H2 in Hc. apply Rmult_le_reg_l with b; [exact Hb | nra].
Qed.

Lemma E_MCHN_is_a_model : forall beta x patterns, 0 < beta ->
  model (beta / 2) beta (fun _ => 0) patterns x
  = beta * E_MCHN beta x patterns + - (ln (count patterns) + beta * max_sq_norm patterns / 2).
Proof.
  intros beta x patterns Hb. unfold model, E_MCHN. rewrite LSE_at_of_map, LSE_of_map.
  rewrite (map_ext (fun rho => exp (beta * dot rho x + 0)) (fun rho => exp (beta * dot rho x)))
    by (intros; f_equal; ring). field. lra.
Qed.

Lemma E_is_a_model : forall x patterns, fits x patterns ->
  model 1 2 (fun rho => - sq_norm rho) patterns x = 1 * E x patterns + 0.
Proof.
  intros x patterns [Hne Hlen]. unfold model, E.
  rewrite (map_ext_in (fun rho => - sq_distance x rho) (fun rho => (2 * dot rho x + - sq_norm rho) + - sq_norm x))
    by (intros rho Hrho; rewrite sq_distance_expands by auto; ring).
  rewrite <- (map_map (fun rho => 2 * dot rho x + - sq_norm rho) (fun y => y + - sq_norm x)).
  rewrite L1_flat_along_ones by (now apply map_nonempty). ring.
Qed.

(** CV, what is true: the MCHN energy is convex iff beta v' Cov_p(rho) v <= |v|^2 for all x and v, p = softmax(beta M'x),
    that is, iff beta times the largest eigenvalue of the covariance of the patterns is nowhere above 1. *)
Theorem CV_convex_iff : forall n beta patterns,
  0 < beta -> patterns <> [] -> (forall rho, In rho patterns -> length rho = n) ->
  (convex n (fun x => E_MCHN beta x patterns) <-> forall x v, length x = n -> length v = n ->
     beta * bend (map (fun rho => beta * dot rho x) patterns) (map (fun rho => dot rho v) patterns) <= sq_norm v).
Proof.
  intros n beta patterns Hb Hne Hlen.
  rewrite (convex_affine n _ _ beta _ Hb (fun x _ => E_MCHN_is_a_model beta x patterns Hb)).
  rewrite model_convex_iff by assumption.
  assert (scores : forall x, map (fun rho => beta * dot rho x + 0) patterns = map (fun rho => beta * dot rho x) patterns)
    by (intros; apply map_ext; intros; ring).
  split; intros H x v Hx Hv; specialize (H x v Hx Hv); rewrite scores in *.
  - apply Rmult_le_reg_l with beta; [exact Hb | lra].
  - apply Rmult_le_compat_l with (r := beta) in H; lra.
Qed.

(** bend of two scores y_1, y_2 is at most (a_1 - a_2)^2 / 4, and that where the scores are equal. *)
Lemma bend_of_two : forall y1 y2 a1 a2, bend [y1; y2] [a1; a2] <= (a1 - a2) ^ 2 / 4 /\
  (y1 = y2 -> bend [y1; y2] [a1; a2] = (a1 - a2) ^ 2 / 4).
Proof.
  intros y1 y2 a1 a2. pose proof (exp_pos y1). pose proof (exp_pos y2).
  assert (value : bend [y1; y2] [a1; a2]
    = (a1 - a2) ^ 2 / 4 - ((exp y1 - exp y2) / (exp y1 + exp y2)) ^ 2 * (a1 - a2) ^ 2 / 4)
    by (unfold bend, softmax, dot, sum; cbn [map combine fold_right]; field; lra).
  rewrite value. split.
  - pose proof (pow2_ge_0 ((exp y1 - exp y2) / (exp y1 + exp y2))). pose proof (pow2_ge_0 (a1 - a2)). nra.
  - intros ->. replace (exp y2 - exp y2) with 0 by ring. unfold Rdiv. ring.
Qed.

Lemma model_of_two : forall n kappa c o r1 r2, 0 < kappa -> 0 < c -> length r1 = n -> length r2 = n ->
  (convex n (model kappa c o [r1; r2]) <-> c ^ 2 * sq_distance r1 r2 <= 8 * kappa).
Proof.
  intros n kappa c o r1 r2 Hk Hc H1 H2. set (u := differences r1 r2). set (s := sq_distance r1 r2).
  assert (Hu : length u = n) by (unfold u, differences; rewrite map_length, combine_length; lia).
  assert (Hs : sq_norm u = s) by apply sq_norm_differences.
  rewrite model_convex_iff by (easy || now intros rho [<- | [<- | []]]). cbn [map]. split.
  - intros H. destruct (Req_dec s 0) as [-> | apart]; [lra |].
    assert (positive : 0 < s) by (pose proof (sq_norm_nonnegative u); lra).
    set (x := map (fun a => (o r2 - o r1) / (c * s) * a) u).
    assert (Hx : length x = n) by (unfold x; now rewrite map_length).
    specialize (H x u Hx Hu). pose proof (dot_differences r1 r2 x ltac:(congruence)) as along_x.
    pose proof (dot_differences r1 r2 u ltac:(congruence)) as along_u. fold u in along_x, along_u.
    rewrite dot_itself, Hs in along_u. unfold x in along_x at 1. rewrite dot_scaled, dot_itself, Hs in along_x.
    assert (equal : c * dot r1 x + o r1 = c * dot r2 x + o r2).
    { replace (dot r1 x) with (dot r2 x + (o r2 - o r1) / (c * s) * s) by lra. field. lra. }
    rewrite (proj2 (bend_of_two _ _ _ _) equal), <- along_u, Hs in H.
    apply Rmult_le_reg_r with s; [exact positive | nra].
  - intros H x v Hx Hv. eapply Rle_trans; [apply Rmult_le_compat_l; [apply pow2_ge_0 | apply bend_of_two] |].
    rewrite <- dot_differences by congruence. fold u. pose proof (cauchy_schwarz u v ltac:(congruence)) as cauchy.
    rewrite Hs in cauchy. pose proof (sq_norm_nonnegative v). pose proof (pow2_ge_0 c). nra.
Qed.

(** S1: with two patterns at distance s the MCHN energy is convex iff beta s^2 <= 4, and E iff s^2 <= 2. *)
Theorem S1 : forall n beta r1 r2, 0 < beta -> length r1 = n -> length r2 = n ->
  (convex n (fun x => E_MCHN beta x [r1; r2]) <-> beta * sq_distance r1 r2 <= 4) /\
  (convex n (fun x => E x [r1; r2]) <-> sq_distance r1 r2 <= 2).
Proof.
  intros n beta r1 r2 Hb H1 H2. split.
  - rewrite (convex_affine n _ _ beta _ Hb (fun x _ => E_MCHN_is_a_model beta x [r1; r2] Hb)).
    rewrite model_of_two by (assumption || lra). split; intros H.
    + apply Rmult_le_reg_l with beta; [exact Hb | lra].
    + apply Rmult_le_compat_l with (r := beta) in H; lra.
  - assert (Hfits : forall x, length x = n -> fits x [r1; r2])
      by (intros x Hx; split; [easy |]; intros rho [<- | [<- | []]]; congruence).
    rewrite (convex_affine n _ _ 1 0 Rlt_0_1 (fun x Hx => E_is_a_model x [r1; r2] (Hfits x Hx))).
    rewrite model_of_two by (assumption || lra). split; intros H; lra.
Qed.

(** The gradient of E is 2 (x - mean shift): the slope of E at x along v is 2 (x - x+) . v. *)
Theorem E4_gradient : forall x v patterns, fits x patterns -> length v = length x ->
  is_derive (fun t => E (along x v t) patterns) 0 (2 * (dot x v - dot (mean_shift x patterns) v)).
Proof.
  intros x v patterns Hfits Hv. pose proof Hfits as [Hne Hlen].
  destruct (model_along (length x) 1 2 (fun rho => - sq_norm rho) patterns Hne Hlen x v 0 eq_refl Hv) as [slope _].
  assert (fits_there : forall t, fits (along x v t) patterns)
    by (intros t; split; [exact Hne | intros; rewrite length_along by exact Hv; now apply Hlen]).
  apply is_derive_ext with (g := fun t => E (along x v t) patterns) in slope;
    [| intros t; rewrite E_is_a_model by apply fits_there; simpl; ring].
  rewrite along_0, dot_scaled in slope by exact Hv.
  set (f := fun rho => - sq_distance x rho). set (h := fun rho => 2 * dot rho x + - sq_norm rho) in slope.
  assert (shift : forall rho, In rho patterns -> f rho = h rho + - sq_norm x)
    by (intros rho Hrho; unfold f, h; rewrite sq_distance_expands by auto; ring).
  assert (same : dot (softmax (map h patterns)) (map (fun rho => dot rho v) patterns) = dot (mean_shift x patterns) v).
  { rewrite dot_softmax by exact Hne. unfold mean_shift. change (fun rho => - sq_distance x rho) with f.
    rewrite softmax_as_weights by exact Hne. rewrite (dot_combination (length x)) by auto. f_equal. apply map_ext_in.
    intros rho Hrho. do 2 f_equal. rewrite (map_ext_in f (fun rho => h rho + - sq_norm x)) by exact shift.
    rewrite <- (map_map h (fun y => y + - sq_norm x)), L1_flat_along_ones by (now apply map_nonempty).
    rewrite shift by exact Hrho. ring. }
  rewrite same in slope. replace (2 * (dot x v - dot (mean_shift x patterns) v))
    with (1 * (2 * dot x v + 2 * 0 * sq_norm v) - 2 * dot (mean_shift x patterns) v) by ring. exact slope.
Qed.
