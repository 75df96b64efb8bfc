(** What a step does to E_global, exactly, and what one layer can say of the stack: for any energies of any l >= 1 layers. *)

From Coq Require Import Reals List Lra Lia.
From Memlm Require Import Definitions Sums LogSumExp Energies Layers Printed Descent.
Import ListNotations.
Open Scope R_scope.

Lemma ln_share : forall energies E_t x, energies <> [] -> ln (share energies E_t x) = E_global energies x - E_t x.
Proof.
  intros energies E_t x H. unfold share, E_global. rewrite LSE_of_map.
  assert (0 < sum (map (fun E_s => exp (- E_s x)) energies)) by (now apply (sum_exp_positive energies)).
  unfold Rdiv. rewrite ln_mult, ln_Rinv, ln_exp by (try apply Rinv_0_lt_compat; try apply exp_pos; assumption). ring.
Qed.

(** S45: from x to y E_global rises by the rise of E_t plus the rise of log p_t, for every layer t and all x and y. *)
Theorem S45 : forall energies E_t x y, energies <> [] ->
  E_global energies y - E_global energies x
  = (E_t y - E_t x) + (ln (share energies E_t y) - ln (share energies E_t x)).
Proof. intros energies E_t x y H. rewrite 2 ln_share by exact H. ring. Qed.

Lemma share_at_most_1 : forall energies E_t x, In E_t energies -> ln (share energies E_t x) <= 0.
Proof.
  intros energies E_t x H. assert (Hne : energies <> []) by now intros ->. rewrite ln_share by exact Hne.
  pose proof (E8_bounds energies x Hne) as [_ top].
  pose proof (minimum_bounds _ _ (in_map (fun E_s => E_s x) _ _ H)). simpl in *. lra.
Qed.

(** S46: a step that does not raise E_t does not raise E_global if p_t does not rise or if E_t falls by - log p_t(x) or
    more, and it never raises E_global by more than - log p_t(x). *)
Theorem S46 : forall energies E_t x y, In E_t energies -> E_t y <= E_t x ->
  (share energies E_t y <= share energies E_t x -> E_global energies y <= E_global energies x) /\
  (E_t y <= E_t x + ln (share energies E_t x) -> E_global energies y <= E_global energies x) /\
  E_global energies y - E_global energies x <= - ln (share energies E_t x).
Proof.
  intros energies E_t x y H Hstep. assert (Hne : energies <> []) by now intros ->.
  pose proof (S45 energies E_t x y Hne). pose proof (share_at_most_1 energies E_t y H). repeat split; [| lra | lra].
  intros Hshare. enough (ln (share energies E_t y) <= ln (share energies E_t x)) by lra.
  apply ln_le; [| exact Hshare]. apply Rdiv_lt_0_compat; [apply exp_pos | now apply (sum_exp_positive energies)].
Qed.

(** S47: E_global(y) <= E_global(x) + sum_t p_t(x) (E_t(y) - E_t(x)), and so with equality at y = x. *)
Theorem S47 : forall energies x y, energies <> [] ->
  E_global energies y <= E_global energies x + sum (map (fun E_t => share energies E_t x * (E_t y - E_t x)) energies) /\
  sum (map (fun E_t => share energies E_t x * (E_t x - E_t x)) energies) = 0.
Proof.
  intros energies x y H. split.
  - pose proof (tangent energies (fun E_t => - E_t x) (fun E_t => - E_t y) H) as below.
    rewrite dot_softmax in below by exact H.
    rewrite (map_ext _ (fun E_t => -1 * (share energies E_t x * (E_t y - E_t x)))) in below.
    + rewrite sum_scale in below. unfold E_global. lra.
    + intros E_t. replace (share energies E_t x) with (exp (- E_t x - LSE (map (fun E_s => - E_s x) energies))); [ring |].
      unfold share, Rminus, Rdiv. rewrite exp_plus, (exp_Ropp (LSE _)), exp_LSE by now apply map_nonempty.
      now rewrite map_map.
  - rewrite (map_ext _ (fun E_t => 0 * share energies E_t x)) by (intros; ring). rewrite sum_scale. ring.
Qed.

(** S48: with t the layer of least energy at x, E_global = E_t(x) - log l + c with 0 <= c <= log l, c < log l for l >= 2. *)
Theorem S48 : forall energies E_t x, In E_t energies -> (forall E_s, In E_s energies -> E_t x <= E_s x) ->
  let c := E_global energies x - E_t x + ln (count energies) in
  0 <= c <= ln (count energies) /\ ((2 <= length energies)%nat -> c < ln (count energies)).
Proof.
  intros energies E_t x H Hleast c. assert (Hne : energies <> []) by now intros ->.
  assert (least : minimum (map (fun E_s => E_s x) energies) = E_t x).
  { apply Rle_antisym; [exact (minimum_bounds _ _ (in_map (fun E_s => E_s x) _ _ H)) |].
    pose proof (minimum_is_entry _ (map_nonempty energies (fun E_s => E_s x) Hne)) as Hin.
    apply in_map_iff in Hin as (E_s & <- & HE_s). now apply Hleast. }
  pose proof (E8_bounds energies x Hne) as bounds. pose proof (E8_strict_iff_two_layers energies x Hne) as strict.
  rewrite least in *. unfold c. split; [lra |]. intros Hl. apply strict in Hl. lra.
Qed.

(** E10 is false for two layers as soon as each is the lower one somewhere: for no layer t is E_global = E_t - log l + c with
    c >= 0 everywhere, whether c is smooth, constant or neither ... *)
Theorem E10_no_layer_stands_for_two : forall E_1 E_2 x y, E_1 x < E_2 x -> E_2 y < E_1 y ->
  ~ (exists E_t c, In E_t [E_1; E_2] /\ forall z, 0 <= c z /\ E_global [E_1; E_2] z = E_t z - ln 2 + c z).
Proof.
  assert (low : forall a b, b < a -> - ln (exp (- a) + exp (- b)) < a - ln 2).
  { intros a b Hab. assert (exp (- a) < exp (- b)) by (apply exp_increasing; lra). pose proof (exp_pos (- a)).
    assert (ln (2 * exp (- a)) < ln (exp (- a) + exp (- b))) by (apply ln_increasing; lra).
    rewrite ln_mult, ln_exp in * by lra. lra. }
  assert (value : forall E_1 E_2 z, E_global [E_1; E_2] z = - ln (exp (- E_1 z) + exp (- E_2 z))).
  { intros. unfold E_global, LSE, sum. cbn [map fold_right]. now rewrite Rplus_0_r. }
  intros E_1 E_2 x y Hx Hy (E_t & c & [<- | [<- | []]] & claimed).
  - specialize (claimed y). rewrite value in claimed. pose proof (low _ _ Hy). lra.
  - specialize (claimed x). rewrite value, Rplus_comm in claimed. pose proof (low _ _ Hx). lra.
Qed.

(** ... as with the layers {0} and {3} in R^1, for E_t = g_t ... *)
Theorem E10_is_false :
  ~ (forall layers, layers <> [] -> exists E_t c, In E_t (map (fun D x => g x D) layers) /\
     forall z, 0 <= c z /\ E_global (map (fun D x => g x D) layers) z = E_t z - ln (count layers) + c z).
Proof.
  intros claimed. specialize (claimed [[[0]]; [[3]]] ltac:(easy)). unfold count in claimed. simpl length in claimed.
  replace (INR 2) with 2 in claimed by (simpl; ring). revert claimed.
  apply (E10_no_layer_stands_for_two _ _ [0] [3]); rewrite 2 g_in_one_dimension; lra.
Qed.

(** ... and for the printed E_t = exp(- g_t) / Z with any Z > 0. *)
Theorem E10_printed_is_false : forall Z, 0 < Z ->
  ~ (forall layers, layers <> [] -> exists E_t c, In E_t (map (E_printed Z) layers) /\
     forall z, 0 <= c z /\ E_global (map (E_printed Z) layers) z = E_t z - ln (count layers) + c z).
Proof.
  intros Z HZ claimed. specialize (claimed [[[0]]; [[3]]] ltac:(easy)). unfold count in claimed. simpl length in claimed.
  replace (INR 2) with 2 in claimed by (simpl; ring). revert claimed.
  apply (E10_no_layer_stands_for_two _ _ [3] [0]); rewrite 2 printed_in_one_dimension; apply Rmult_lt_compat_r;
    try (now apply Rinv_0_lt_compat); apply exp_increasing; lra.
Qed.

(** P4 for a stack, what is true, with a finite set of states in place of the integral: E_t = g_t, Z_t = sum_x exp(- g_t(x)),
    and the loss L of the law exp(- E_global) / Z on the patterns obeys log((1/l) sum_t Z_t) <= L <= log sum_t Z_t. *)
Theorem P4_many_layers : forall states layers, states <> [] -> (forall D, In D layers -> D <> []) -> concat layers <> [] ->
  let energies := map (fun D x => g x D) layers in
  let Z := fun E_t => sum (map (fun x => exp (- E_t x)) states) in
  let L := ln (Z (E_global energies)) + sum (map (E_global energies) (concat layers)) / count (concat layers) in
  ln (/ count layers * sum (map Z energies)) <= L <= ln (sum (map Z energies)).
Proof.
  intros states layers Hs HD Hc energies Z L. assert (Hl : layers <> []) by now intros ->.
  assert (He : energies <> []) by now apply map_nonempty.
  assert (total : Z (E_global energies) = sum (map Z energies)).
  { unfold Z. rewrite (map_ext _ (fun x => sum (map (fun E_t => exp (- E_t x)) energies))).
    - apply sum_swap.
    - intros x. unfold E_global. rewrite Ropp_involutive, exp_LSE by now apply map_nonempty. now rewrite map_map. }
  assert (range : forall rho, In rho (concat layers) -> - ln (count layers) <= E_global energies rho <= 0).
  { intros rho Hrho. apply in_concat in Hrho as (D & HDl & Hrho). pose proof (E8_bounds energies rho He) as bounds.
    replace (count energies) with (count layers) in bounds by (unfold count, energies; now rewrite map_length).
    enough (minimum (map (fun E_t => E_t rho) energies) = 0) by lra.
    assert (Hin : In 0 (map (fun E_t => E_t rho) energies)).
    { unfold energies. rewrite map_map. apply in_map_iff. exists D. split; [| exact HDl]. apply Rle_antisym.
      - rewrite <- (sq_distance_to_itself rho). apply minimum_bounds. now apply in_map.
      - now apply g_nonnegative, HD. }
    apply Rle_antisym; [now apply minimum_bounds |].
    pose proof (minimum_is_entry _ (map_nonempty energies (fun E_t => E_t rho) He)) as Hmin.
    apply in_map_iff in Hmin as (E_t & <- & HE_t). apply in_map_iff in HE_t as (D' & <- & HD').
    now apply g_nonnegative, HD. }
  assert (Hcount : 0 < count (concat layers)) by (destruct (concat layers); [easy |]; apply lt_0_INR; simpl; lia).
  assert (Hcl : 0 < count layers) by (destruct layers; [easy |]; apply lt_0_INR; simpl; lia).
  assert (HZ : 0 < sum (map Z energies)) by (rewrite <- total; now apply (sum_exp_positive states)).
  pose proof (sum_le (concat layers) (fun _ => - ln (count layers)) _ (fun rho H => proj1 (range rho H))) as low.
  pose proof (sum_le (concat layers) _ (fun _ => 0) (fun rho H => proj2 (range rho H))) as high.
  rewrite sum_constant in low, high. unfold L. rewrite total. set (m := sum (map (E_global energies) (concat layers))) in *.
  rewrite ln_mult, ln_Rinv by (try apply Rinv_0_lt_compat; assumption).
  assert (- ln (count layers) <= m / count (concat layers) <= 0).
  { split; apply Rmult_le_reg_r with (count (concat layers)); try exact Hcount; unfold Rdiv;
      rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra; lra. }
  lra.
Qed.
