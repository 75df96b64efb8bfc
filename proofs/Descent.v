(** Softmax as the gradient of log-sum-exp, and what follows: steps that do lower the energies, for every n and every d. *)

From Coq Require Import Reals List Lra Lia Permutation.
From Memlm Require Import Definitions Sums LogSumExp Energies Layers.
Import ListNotations.
Open Scope R_scope.

(** The weight exp (f a - LSE) that softmax gives to an entry; the weights sum to 1 (sum_exp_normalised). *)
Lemma dot_softmax : forall {A : Type} (l : list A) f u, l <> [] ->
  dot (softmax (map f l)) (map u l) = sum (map (fun a => exp (f a - LSE (map f l)) * u a) l).
Proof.
  intros A l f u H. unfold dot, softmax. set (s := LSE (map f l)).
  assert (Hs : sum (map exp (map f l)) = exp s) by (unfold s; now rewrite exp_LSE by now apply map_nonempty).
  rewrite Hs. clearbody s. clear Hs H. unfold sum. induction l as [| a l IH]; [reflexivity |].
  cbn [map combine fold_right]. rewrite IH. unfold Rminus, Rdiv. now rewrite exp_plus, exp_Ropp.
Qed.

(** LSE lies above its tangent planes: softmax (f) . (h - f) <= LSE(h) - LSE(f). *)
Lemma tangent : forall {A : Type} (l : list A) f h, l <> [] ->
  dot (softmax (map f l)) (map (fun a => h a - f a) l) <= LSE (map h l) - LSE (map f l).
Proof.
  intros A l f h Hl. rewrite dot_softmax by exact Hl. set (s := LSE (map f l)).
  set (c := sum (map (fun a => exp (f a - s) * (h a - f a)) l)).
  (* Jensen: sum_a w_a exp (h_a - f_a - c) >= sum_a w_a (1 + h_a - f_a - c) = 1. *)
  assert (jensen : 1 <= exp (- s - c) * exp (LSE (map h l))).
  { rewrite exp_LSE by now apply map_nonempty. rewrite map_map, <- sum_scale.
    rewrite <- (sum_exp_normalised l f Hl) at 1. fold s.
    replace (sum (map (fun a => exp (f a - s)) l))
      with ((1 - c) * sum (map (fun a => exp (f a - s)) l) + sum (map (fun a => exp (f a - s) * (h a - f a)) l))
      by (fold c; unfold s; rewrite sum_exp_normalised by exact Hl; ring).
    rewrite <- sum_scale, <- sum_plus. apply sum_le. intros a _.
    replace (exp (- s - c) * exp (h a)) with (exp (f a - s) * exp (h a - f a - c))
      by (rewrite <- 2 exp_plus; f_equal; ring).
    pose proof (exp_pos (f a - s)). pose proof (exp_ineq1_le (h a - f a - c)). nra. }
  rewrite <- exp_plus in jensen. rewrite <- exp_0 in jensen.
  destruct (Rle_or_lt c (LSE (map h l) - s)) as [done | above]; [exact done | exfalso].
  assert (exp (- s - c + LSE (map h l)) < exp 0) by (apply exp_increasing; lra). lra.
Qed.

(** S14: softmax(y) . (x - y) <= LSE(x) - LSE(y) <= softmax(x) . (x - y) for every n. *)
Theorem S14 : forall xs ys, xs <> [] -> length xs = length ys ->
  dot (softmax ys) (differences xs ys) <= LSE xs - LSE ys <= dot (softmax xs) (differences xs ys).
Proof.
  intros xs ys Hne Hlen. destruct (sides_of_pairs xs ys Hlen) as [Hx Hy]. unfold differences.
  set (l := combine xs ys) in *. assert (Hl : l <> []) by now apply pairs_nonempty.
  rewrite (map_ext _ (fun p => fst p - snd p)) by now intros [].
  pose proof (tangent l snd fst Hl) as below. pose proof (tangent l fst snd Hl) as above. rewrite Hx, Hy in *.
  split; [exact below |]. apply Ropp_le_cancel. rewrite Ropp_minus_distr. eapply Rle_trans; [| exact above].
  right. rewrite <- Hx. rewrite 2 dot_softmax by exact Hl.
  rewrite <- (Rmult_1_l (sum _)), <- Ropp_mult_distr_l_reverse, <- sum_scale. apply f_equal, map_ext. intros a. ring.
Qed.

Lemma exp_above_tangent_by_at_most : forall h, h <= 1 / 2 -> exp h <= 1 + h + 2 * h ^ 2.
Proof.
  intros h H. pose proof (exp_pos h). pose proof (exp_ineq1_le (- h)) as below. rewrite exp_Ropp in below.
  assert (exp h * (1 - h) <= exp h * / exp h) by (apply Rmult_le_compat_l; lra). rewrite Rinv_r in * by lra.
  apply Rmult_le_reg_r with (1 - h); nra.
Qed.

(** SM: softmax is the gradient of LSE, with the remainder: if no entry moves by more than 1/2 then
    0 <= LSE(y) - LSE(x) - softmax(x) . (y - x) <= 2 max_i |y_i - x_i|^2. *)
Theorem SM_gradient : forall xs ys, xs <> [] -> length xs = length ys -> sup_distance ys xs <= 1 / 2 ->
  0 <= LSE ys - LSE xs - dot (softmax xs) (differences ys xs) <= 2 * sup_distance ys xs ^ 2.
Proof.
  intros xs ys Hne Hlen Hnear. symmetry in Hlen. assert (Hys : ys <> []) by (intros ->; now destruct xs).
  pose proof (S14 ys xs Hys Hlen) as [below _]. split; [lra |]. clear below.
  destruct (sides_of_pairs ys xs Hlen) as [Hy Hx]. unfold differences, sup_distance in *.
  set (l := combine ys xs) in *. assert (Hl : l <> []) by now apply pairs_nonempty.
  unfold differences in *. fold l in Hnear |- *. set (m := maximum _) in *.
  rewrite (map_ext (fun '(x, y) => x - y) (fun p => fst p - snd p)) by now intros [].
  assert (small : forall p, In p l -> Rabs (fst p - snd p) <= m).
  { intros [y x] Hp. apply maximum_bounds, in_map. apply in_map_iff. now exists (y, x). }
  clearbody m. rewrite <- Hx. rewrite dot_softmax by exact Hl. set (s := LSE (map snd l)).
  rewrite <- Hy. enough (LSE (map fst l) - s <= sum (map (fun p => exp (snd p - s) * (fst p - snd p)) l) + 2 * m ^ 2) by lra.
  apply Rplus_le_reg_l with 1. eapply Rle_trans; [apply exp_ineq1_le |].
  unfold Rminus at 1. rewrite Rplus_comm, exp_plus, exp_LSE by now apply map_nonempty. rewrite map_map, <- sum_scale.
  replace (1 + _) with (sum (map (fun p => (1 + 2 * m ^ 2) * exp (snd p - s) + exp (snd p - s) * (fst p - snd p)) l))
    by (rewrite sum_plus, sum_scale; unfold s; rewrite sum_exp_normalised by exact Hl; ring).
  apply sum_le. intros p Hp. pose proof (small p Hp) as Hsmall.
  replace (exp (- s) * exp (fst p)) with (exp (snd p - s) * exp (fst p - snd p)) by (rewrite <- 2 exp_plus; f_equal; ring).
  assert (fst p - snd p <= 1 / 2) by (pose proof (Rle_abs (fst p - snd p)); lra).
  pose proof (exp_above_tangent_by_at_most _ H) as close. pose proof (exp_pos (snd p - s)).
  assert ((fst p - snd p) ^ 2 <= m ^ 2) by (rewrite <- pow2_abs; apply pow_incr; split; [apply Rabs_pos | exact Hsmall]).
  nra.
Qed.

Lemma dot_itself : forall x, dot x x = sq_norm x.
Proof.
  unfold dot, sq_norm, sum. induction x as [| a x IH]; [reflexivity |]. cbn [combine map fold_right]. rewrite IH. ring.
Qed.

Lemma length_combination : forall n ws vectors,
  (forall v, In v vectors -> length v = n) -> length (combination n ws vectors) = n.
Proof.
  unfold combination. intros n ws. induction ws as [| w ws IH]; intros [| v vs] H; try apply repeat_length.
  cbn [combine fold_right]. rewrite map_length, combine_length, (H v) by now left. rewrite IH; [lia |].
  intros u Hu. apply H. now right.
Qed.

(** (sum_i w_i v_i) . u = sum_i w_i (v_i . u). *)
Lemma dot_combination : forall n (l : list (list R)) w u, (forall v, In v l -> length v = n) -> length u = n ->
  dot (combination n (map w l) l) u = sum (map (fun v => w v * dot v u) l).
Proof.
  assert (zero : forall n u, dot (repeat 0 n) u = 0).
  { unfold dot, sum. induction n as [| n IH]; intros [| b u]; try easy.
    cbn [repeat combine map fold_right]. rewrite IH. ring. }
  assert (one : forall c v r u, length v = length u -> length r = length u ->
    dot (map (fun '(a, b) => c * a + b) (combine v r)) u = c * dot v u + dot r u).
  { unfold dot, sum. intros c. induction v as [| a v IH]; intros [| b r] [| e u] Hv Hr; try easy; [simpl; ring |].
    cbn [combine map fold_right]. rewrite IH by (simpl in *; congruence). ring. }
  intros n l w u Hl Hu. induction l as [| v l IH]; [apply zero |].
  assert (Hrest : forall v, In v l -> length v = n) by (intros; apply Hl; now right).
  pose proof (length_combination n (map w l) l Hrest). change (combination n (map w (v :: l)) (v :: l))
    with (map (fun '(a, b) => w v * a + b) (combine v (combination n (map w l) l))).
  rewrite one by (rewrite ?(Hl v) by (now left); congruence). rewrite IH by exact Hrest. reflexivity.
Qed.

Lemma softmax_as_weights : forall {A : Type} (l : list A) f, l <> [] ->
  softmax (map f l) = map (fun a => exp (f a - LSE (map f l))) l.
Proof.
  intros A l f H. unfold softmax. rewrite <- exp_LSE by now apply map_nonempty. rewrite map_map.
  apply map_ext. intros a. unfold Rminus, Rdiv. now rewrite exp_plus, exp_Ropp.
Qed.

Lemma length_mean_shift : forall x patterns, fits x patterns -> length (mean_shift x patterns) = length x.
Proof. intros x patterns [_ H]. now apply length_combination. Qed.

Lemma length_attention : forall beta x patterns, fits x patterns -> length (attention beta x patterns) = length x.
Proof. intros beta x patterns [_ H]. now apply length_combination. Qed.

(** S40: E(x+) <= E(x) - |x+ - x|^2 for the mean-shift point x+, for every n and d. *)
Theorem S40 : forall x patterns, fits x patterns ->
  E (mean_shift x patterns) patterns <= E x patterns - sq_distance x (mean_shift x patterns).
Proof.
  intros x patterns Hfits. pose proof (length_mean_shift x patterns Hfits) as Hm. destruct Hfits as [Hne Hlen].
  set (m := mean_shift x patterns) in *. set (f := fun y rho => - sq_distance y rho).
  pose proof (tangent patterns (f x) (f m) Hne) as below. rewrite dot_softmax in below by exact Hne.
  set (w := fun rho => exp (f x rho - LSE (map (f x) patterns))) in *.
  assert (weights : sum (map w patterns) = 1) by now apply sum_exp_normalised.
  assert (at_u : forall u, length u = length x -> dot m u = sum (map (fun rho => w rho * dot rho u) patterns)).
  { intros u Hu. unfold m, mean_shift. change (fun rho => - sq_distance x rho) with (f x).
    rewrite softmax_as_weights by exact Hne. now apply dot_combination. }
  rewrite (map_ext_in _ (fun rho => (sq_norm x - sq_norm m) * w rho + (2 * (w rho * dot rho m) + -2 * (w rho * dot rho x))))
    in below by (intros rho Hrho; change (w rho * (f m rho - f x rho) = (sq_norm x - sq_norm m) * w rho
      + (2 * (w rho * dot rho m) + -2 * (w rho * dot rho x))); unfold f;
      rewrite (sq_distance_expands m), (sq_distance_expands x) by (rewrite ?Hm; auto); ring).
  rewrite 2 sum_plus, 3 sum_scale, <- 2 at_u, weights, dot_itself in below by auto.
  rewrite sq_distance_expands by auto. unfold E.
  change (fun rho => - sq_distance m rho) with (f m). change (fun rho => - sq_distance x rho) with (f x). lra.
Qed.

(** S41: E_MCHN(x+) <= E_MCHN(x) - |x+ - x|^2 / 2 for the attention step x+, at every beta > 0. *)
Theorem S41 : forall beta x patterns, 0 < beta -> fits x patterns ->
  E_MCHN beta (attention beta x patterns) patterns
  <= E_MCHN beta x patterns - sq_distance x (attention beta x patterns) / 2.
Proof.
  intros beta x patterns Hb Hfits. pose proof (length_attention beta x patterns Hfits) as Hm. destruct Hfits as [Hne Hlen].
  set (m := attention beta x patterns) in *. set (f := fun y rho => beta * dot rho y).
  pose proof (tangent patterns (f x) (f m) Hne) as below. rewrite dot_softmax in below by exact Hne.
  set (w := fun rho => exp (f x rho - LSE (map (f x) patterns))) in *.
  assert (at_u : forall u, length u = length x -> dot m u = sum (map (fun rho => w rho * dot rho u) patterns)).
  { intros u Hu. unfold m, attention. change (fun rho => beta * dot rho x) with (f x).
    rewrite softmax_as_weights by exact Hne. now apply dot_combination. }
  rewrite (map_ext _ (fun rho => beta * (w rho * dot rho m) + - beta * (w rho * dot rho x))) in below
    by (intros rho; unfold w, f; ring).
  rewrite sum_plus, 2 sum_scale, <- 2 at_u, dot_itself in below by auto.
  assert (scaled : forall y, LSE_at beta (map (fun rho => dot rho y) patterns) = LSE (map (f y) patterns) / beta)
    by (intros y; now rewrite LSE_at_of_map, LSE_of_map).
  rewrite sq_distance_expands by auto. unfold E_MCHN. rewrite 2 scaled.
  assert (sq_norm m - dot m x <= (LSE (map (f m) patterns) - LSE (map (f x) patterns)) / beta)
    by (apply Rmult_le_reg_r with beta; [exact Hb |]; unfold Rdiv; rewrite Rmult_assoc, Rinv_l; lra).
  lra.
Qed.

(** Layer after layer of mean shift, all with the same patterns. *)
Definition tied_layers (patterns : list (list R)) (k : nat) (x : list R) : list R :=
  Nat.iter k (fun y => mean_shift y patterns) x.

Lemma fits_along : forall patterns k x, fits x patterns -> fits (tied_layers patterns k x) patterns.
Proof.
  intros patterns. induction k as [| k IH]; intros x H; [exact H |]. specialize (IH x H).
  change (tied_layers patterns (S k) x) with (mean_shift (tied_layers patterns k x) patterns).
  pose proof (length_mean_shift _ _ IH) as Hl. destruct IH as [Hne Hlen]. split; [exact Hne |].
  intros rho Hrho. rewrite Hl. now apply Hlen.
Qed.

(** S42: of l >= 1 mean-shift layers with the same d patterns one takes a squared step of at most (g(x0) + log d) / l. *)
Theorem S42 : forall x patterns l, fits x patterns -> (1 <= l)%nat -> exists k, (k < l)%nat /\
  sq_distance (tied_layers patterns k x) (tied_layers patterns (S k) x) <= (g x patterns + ln (count patterns)) / INR l.
Proof.
  intros x patterns [| l] Hfits Hl; [lia |]. clear Hl. set (bound := (g x patterns + ln (count patterns)) / INR (S l)).
  set (at_ := fun k => tied_layers patterns k x). set (E_at := fun k => E (at_ k) patterns).
  assert (step : forall k, E_at (S k) <= E_at k - sq_distance (at_ k) (at_ (S k)))
    by (intros k; exact (S40 _ _ (fits_along patterns k x Hfits))).
  assert (descent : forall j, (exists k, (k < j)%nat /\ sq_distance (at_ k) (at_ (S k)) <= bound)
      \/ E_at j <= E_at 0%nat - INR j * bound).
  { induction j as [| j [(k & Hk & done) | IH]]; [right; simpl; lra | left; exists k; split; [lia | exact done] |].
    destruct (Rle_or_lt (sq_distance (at_ j) (at_ (S j))) bound) as [done | large].
    - left. exists j. split; [lia | exact done].
    - right. specialize (step j). rewrite S_INR. lra. }
  destruct (descent l) as [(k & Hk & done) | low]; [exists k; split; [lia | exact done] |].
  exists l. split; [lia |]. destruct (Rle_or_lt (sq_distance (at_ l) (at_ (S l))) bound) as [done | large]; [exact done |].
  exfalso. specialize (step l). assert (whole : INR (S l) * bound = g x patterns + ln (count patterns))
    by (unfold bound; field; apply not_0_INR; lia).
  rewrite S_INR in whole. destruct Hfits as [Hne _]. pose proof (P1 x patterns Hne) as [_ top].
  pose proof (P1 (at_ (S l)) patterns Hne) as [bottom _]. pose proof (g_nonnegative (at_ (S l)) patterns Hne).
  change (E x patterns) with (E_at 0%nat) in top. change (E (at_ (S l)) patterns) with (E_at (S l)) in bottom. lra.
Qed.

(** S43: with E_t of (4), E_global of layers is the energy of all patterns together, however they are dealt to layers. *)
Theorem S43 : forall x layers patterns, (forall D, In D layers -> D <> []) ->
  Permutation patterns (concat layers) -> E_global (map (fun D x => E x D) layers) x = E x patterns.
Proof.
  intros x layers patterns Hne Hp. unfold E_global, E. rewrite map_map, 2 LSE_of_map. do 2 f_equal.
  rewrite (sum_permuted _ _ (Permutation_map _ Hp)). clear Hp. induction layers as [| D layers IH]; [reflexivity |].
  cbn [map concat]. rewrite map_app, sum_append, <- IH by (intros; apply Hne; now right).
  rewrite Ropp_involutive, exp_LSE, map_map by (apply map_nonempty, Hne; now left). reflexivity.
Qed.
