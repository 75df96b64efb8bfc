(** P1-P3: the layer energy E against the nearest-pattern distance g and against the MCHN energy, for every n and every d. *)

From Coq Require Import Reals List Lra Lia.
From Memlm Require Import Definitions Sums LogSumExp.
Import ListNotations.
Open Scope R_scope.

Lemma opposites : forall {A : Type} (l : list A) (f : A -> R), map (fun a => - f a) l = map Ropp (map f l).
Proof. intros. now rewrite map_map. Qed.

Lemma g_nonnegative : forall x patterns, patterns <> [] -> 0 <= g x patterns.
Proof.
  intros x patterns H. pose proof (minimum_is_entry _ (map_nonempty patterns (sq_distance x) H)) as Hin. unfold g.
  apply in_map_iff in Hin as (rho & <- & _). apply sum_nonnegative. intros []. apply pow2_ge_0.
Qed.

Lemma sq_distance_to_itself : forall x, sq_distance x x = 0.
Proof.
  unfold sq_distance, sum. induction x as [| a x IH]; [reflexivity |]. cbn [map combine fold_right]. rewrite IH. ring.
Qed.

(** P1: g - log d <= E <= g. *)
Theorem P1 : forall x patterns, patterns <> [] -> g x patterns - ln (count patterns) <= E x patterns <= g x patterns.
Proof.
  intros x patterns H. pose proof (map_nonempty patterns (sq_distance x) H) as Hd.
  unfold E, g. rewrite opposites. pose proof (L3_lower _ Hd) as lower. pose proof (L3_upper _ Hd).
  unfold count in *. rewrite map_length in lower. lra.
Qed.

(** P1, strict above as soon as there are two patterns: E < g for d >= 2. *)
Theorem P1_strict : forall x patterns, (2 <= length patterns)%nat -> E x patterns < g x patterns.
Proof.
  intros x patterns H. unfold E, g. rewrite opposites. apply L3_upper_strict. now rewrite map_length.
Qed.

(** |x - rho|^2 = |x|^2 - 2 rho . x + |rho|^2, coordinate by coordinate. *)
Lemma sq_distance_expands : forall x rho, length rho = length x ->
  sq_distance x rho = sq_norm x - 2 * dot rho x + sq_norm rho.
Proof.
  unfold sq_distance, sq_norm, dot, sum. induction x as [| a x IH]; intros [| b rho] H; try easy; simpl in *; [ring |].
  injection H as H. rewrite (IH rho H). ring.
Qed.

(** Adding one number to every entry adds it to LSE at every inverse temperature. *)
Lemma LSE_at_shift : forall {A : Type} beta (l : list A) f c, 0 < beta -> l <> [] ->
  LSE_at beta (map (fun a => f a + c) l) = LSE_at beta (map f l) + c.
Proof.
  intros A beta l f c Hb Hl. apply Rle_antisym.
  - pose proof (LSE_at_rises_by_at_most beta l (fun a => f a + c) f c Hb Hl). simpl in H. lapply H; [lra | intros; lra].
  - pose proof (LSE_at_rises_by_at_most beta l f (fun a => f a + c) (- c) Hb Hl). simpl in H. lapply H; [lra | intros; lra].
Qed.

(** The MCHN energy is a soft least of |x - rho_i|^2 / 2, each with the handicap (max |rho|^2 - |rho_i|^2) / 2. *)
Lemma MCHN_is_handicapped : forall beta x patterns, 0 < beta -> fits x patterns ->
  E_MCHN beta x patterns - ln (count patterns) / beta
  = - LSE_at beta (map (fun rho => - (sq_distance x rho + (max_sq_norm patterns - sq_norm rho)) / 2) patterns).
Proof.
  intros beta x patterns Hb [Hne Hlen].
  rewrite (map_ext_in _ (fun rho => dot rho x + - (sq_norm x + max_sq_norm patterns) / 2)).
  - rewrite LSE_at_shift by assumption. unfold E_MCHN. lra.
  - intros rho Hrho. rewrite (sq_distance_expands x rho (Hlen rho Hrho)). field.
Qed.

(** Each handicap lies between 0 and Delta. *)
Lemma handicap : forall patterns rho, In rho patterns -> 0 <= max_sq_norm patterns - sq_norm rho <= Delta patterns.
Proof.
  intros patterns rho H. unfold Delta, max_sq_norm. pose proof (in_map sq_norm _ _ H) as Hin.
  pose proof (maximum_bounds _ _ Hin). pose proof (minimum_bounds _ _ Hin). lra.
Qed.

(** P2 at every inverse temperature, with its one sign:
    0 <= (E_MCHN - (log d) / beta) - (- LSE(beta, - |x - rho_i|^2 / 2)) <= Delta / 2. *)
Theorem P2_every_beta : forall beta x patterns, 0 < beta -> fits x patterns ->
  0 <= (E_MCHN beta x patterns - ln (count patterns) / beta)
       - - LSE_at beta (map (fun rho => - sq_distance x rho / 2) patterns) <= Delta patterns / 2.
Proof.
  intros beta x patterns Hb Hfits. rewrite (MCHN_is_handicapped beta x patterns Hb Hfits). destruct Hfits as [Hne _].
  set (near := fun rho => - sq_distance x rho / 2).
  set (handicapped := fun rho => - (sq_distance x rho + (max_sq_norm patterns - sq_norm rho)) / 2).
  assert (H : LSE_at beta (map handicapped patterns) - LSE_at beta (map near patterns) <= 0).
  { apply LSE_at_rises_by_at_most; [exact Hb | exact Hne |]. intros rho Hrho. unfold handicapped, near.
    pose proof (handicap patterns rho Hrho). lra. }
  assert (H' : LSE_at beta (map near patterns) - LSE_at beta (map handicapped patterns) <= Delta patterns / 2).
  { apply LSE_at_rises_by_at_most; [exact Hb | exact Hne |]. intros rho Hrho. unfold handicapped, near.
    pose proof (handicap patterns rho Hrho). lra. }
  lra.
Qed.

Lemma E_at_2 : forall x patterns, E x patterns = 2 * - LSE_at 2 (map (fun rho => - sq_distance x rho / 2) patterns).
Proof.
  intros x patterns. unfold E. rewrite LSE_of_map, LSE_at_of_map.
  rewrite (map_ext (fun rho => exp (2 * (- sq_distance x rho / 2))) (fun rho => exp (- sq_distance x rho)))
    by (intros; f_equal; field).
  field.
Qed.

(** P2, sharper than printed: 0 <= (2 E_MCHN - log d) - E <= Delta at beta = 2. *)
Theorem P2_one_sided : forall x patterns, fits x patterns ->
  0 <= (2 * E_MCHN 2 x patterns - ln (count patterns)) - E x patterns <= Delta patterns.
Proof. intros x patterns H. rewrite E_at_2. pose proof (P2_every_beta 2 x patterns ltac:(lra) H). lra. Qed.

(** P2 as printed: |E - (2 E_MCHN - log d)| <= Delta at beta = 2. *)
Theorem P2_printed : forall x patterns, fits x patterns ->
  Rabs (E x patterns - (2 * E_MCHN 2 x patterns - ln (count patterns))) <= Delta patterns.
Proof. intros x patterns H. pose proof (P2_one_sided x patterns H). rewrite Rabs_minus_sym, Rabs_pos_eq; lra. Qed.

(** P3, repaired: - Delta - log d < g - 2 E_MCHN <= 0 for d >= 2 patterns, at beta = 2. *)
Theorem P3_repaired : forall x patterns, fits x patterns -> (2 <= length patterns)%nat ->
  - Delta patterns - ln (count patterns) < g x patterns - 2 * E_MCHN 2 x patterns <= 0.
Proof.
  intros x patterns H Hd. pose proof (P2_one_sided x patterns H). pose proof (P1_strict x patterns Hd).
  destruct H as [Hne _]. pose proof (P1 x patterns Hne). lra.
Qed.

(** P3 at d = 1: g - 2 E_MCHN = 0 for a single pattern, so the strict side does need d >= 2. *)
Theorem P3_is_zero_at_one_pattern : forall x rho, length rho = length x -> g x [rho] - 2 * E_MCHN 2 x [rho] = 0.
Proof.
  intros x rho H. assert (Hfits : fits x [rho]) by (split; [easy | intros ? [<- | []]; exact H]).
  pose proof (P2_one_sided x [rho] Hfits) as P2. pose proof (P1 x [rho] ltac:(easy)) as P1.
  unfold Delta, max_sq_norm, count in *. simpl in P1, P2. rewrite ln_1 in *. lra.
Qed.

(** P3, the upper half as printed: g - 2 E_MCHN <= Delta + log d. *)
Theorem P3_printed_upper : forall x patterns, fits x patterns ->
  g x patterns - 2 * E_MCHN 2 x patterns <= Delta patterns + ln (count patterns).
Proof.
  intros x patterns H. pose proof (P2_one_sided x patterns H). destruct H as [Hne _]. pose proof (P1 x patterns Hne). lra.
Qed.

(** P3, the smallest counterexample: patterns -1 and 1 in R^1, x = 1. There Delta = 0 and
    g - 2 E_MCHN = log ((1 + e^-4) / 2) < 0. *)
Theorem P3_counterexample :
  Delta [[-1]; [1]] = 0 /\
  g [1] [[-1]; [1]] - 2 * E_MCHN 2 [1] [[-1]; [1]] = ln ((1 + exp (-4)) / 2) /\
  ln ((1 + exp (-4)) / 2) < 0.
Proof.
  assert (Hg : g [1] [[-1]; [1]] = 0) by (unfold g, sq_distance, sum; simpl; rewrite Rmin_right; lra).
  assert (Hmax : max_sq_norm [[-1]; [1]] = 1) by (unfold max_sq_norm, sq_norm, sum; simpl; rewrite Rmax_right; lra).
  assert (HD : Delta [[-1]; [1]] = 0)
    by (unfold Delta; rewrite Hmax; unfold sq_norm, sum; simpl; rewrite Rmin_right; lra).
  assert (HE : E [1] [[-1]; [1]] = - ln (1 + exp (-4))).
  { unfold E, LSE. cbn [map].
    replace (sq_distance [1] [-1]) with 4 by (unfold sq_distance, sum; simpl; ring).
    replace (sq_distance [1] [1]) with 0 by (unfold sq_distance, sum; simpl; ring).
    do 2 f_equal. unfold sum. simpl. replace (- (4)) with (-4) by ring. rewrite Ropp_0, exp_0. ring. }
  assert (Hfits : fits [1] [[-1]; [1]]) by (split; [easy | intros ? [<- | [<- | []]]; reflexivity]).
  pose proof (P2_one_sided _ _ Hfits) as P2. rewrite HD in P2.
  unfold count in P2. simpl length in P2. simpl INR in P2. replace (1 + 1) with 2 in P2 by ring.
  assert (small : exp (-4) < 1) by (rewrite <- exp_0; apply exp_increasing; lra). pose proof (exp_pos (-4)).
  assert (Hln : ln ((1 + exp (-4)) / 2) = ln (1 + exp (-4)) - ln 2)
    by (unfold Rdiv; rewrite ln_mult, ln_Rinv by lra; ring).
  assert (ln (1 + exp (-4)) < ln 2) by (apply ln_increasing; lra). repeat split; lra.
Qed.

(** P3, the lower half as printed, is false: not always min |rho|^2 - max |rho|^2 <= g - 2 E_MCHN. *)
Theorem P3_printed_lower_is_false :
  ~ (forall x patterns, fits x patterns -> - Delta patterns <= g x patterns - 2 * E_MCHN 2 x patterns).
Proof.
  intros printed. assert (Hfits : fits [1] [[-1]; [1]]) by (split; [easy | intros ? [<- | [<- | []]]; reflexivity]).
  specialize (printed _ _ Hfits). pose proof P3_counterexample. lra.
Qed.

(** P3 as printed, both halves: min |rho|^2 - max |rho|^2 <= g - 2 E_MCHN <= max |rho|^2 - min |rho|^2 + log d, is false. *)
Theorem P3_printed_is_false :
  ~ (forall x patterns, fits x patterns ->
     - Delta patterns <= g x patterns - 2 * E_MCHN 2 x patterns <= Delta patterns + ln (count patterns)).
Proof. intros printed. apply P3_printed_lower_is_false. intros x patterns H. apply (printed x patterns H). Qed.
