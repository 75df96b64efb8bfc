(** S10: how convex LSE is (that [bend] is its second derivative is shown in Calculus.v). S11, S33: ties and gaps. *)

From Coq Require Import Reals List Lra Lia.
From Memlm Require Import Definitions Sums LogSumExp Energies Descent Sharper.
Import ListNotations.
Open Scope R_scope.

(** The weights of softmax as a function on the pairs (y_i, v_i). *)
Lemma bend_as_variance : forall {A : Type} (l : list A) f u, l <> [] ->
  let w := fun a => exp (f a - LSE (map f l)) in
  bend (map f l) (map u l) = sum (map (fun a => w a * u a ^ 2) l) - sum (map (fun a => w a * u a) l) ^ 2.
Proof. intros A l f u H w. unfold bend. rewrite (map_map u). now rewrite 2 dot_softmax by exact H. Qed.

(** For a mean m of weights that sum to 1: sum_i w_i (u_i - m)^2 = sum_i w_i u_i^2 - m^2. *)
Lemma variance : forall {A : Type} (l : list A) w u, sum (map w l) = 1 ->
  sum (map (fun a => w a * (u a - sum (map (fun a => w a * u a) l)) ^ 2) l)
  = sum (map (fun a => w a * u a ^ 2) l) - sum (map (fun a => w a * u a) l) ^ 2.
Proof.
  intros A l w u H. set (m := sum (map (fun a => w a * u a) l)).
  rewrite (map_ext _ (fun a => w a * u a ^ 2 + (-2 * m * (w a * u a) + m ^ 2 * w a))) by (intros; ring).
  rewrite 2 sum_plus, 2 sum_scale, H. fold m. ring.
Qed.

Lemma greatest_and_least_in_square_sum : forall v, v <> [] -> maximum v <> minimum v ->
  maximum v ^ 2 + minimum v ^ 2 <= sq_norm v.
Proof.
  assert (one : forall v a, In a v -> a ^ 2 <= sq_norm v).
  { unfold sq_norm, sum. induction v as [| b v IH]; intros a H; [easy |]. cbn [map fold_right].
    pose proof (sq_norm_nonnegative v) as rest. unfold sq_norm, sum in rest. pose proof (pow2_ge_0 b).
    destruct H as [-> | H]; [lra | specialize (IH a H); lra]. }
  assert (two : forall v a b, In a v -> In b v -> a <> b -> a ^ 2 + b ^ 2 <= sq_norm v).
  { induction v as [| c v IH]; intros a b Ha Hb Hab; [easy |]. change (sq_norm (c :: v)) with (c ^ 2 + sq_norm v).
    pose proof (pow2_ge_0 c). destruct Ha as [-> | Ha], Hb as [-> | Hb]; [easy | | |].
    - pose proof (one v b Hb). lra.
    - pose proof (one v a Ha). lra.
    - pose proof (IH a b Ha Hb Hab). lra. }
  intros v Hv Hne. apply two; [now apply maximum_is_entry | now apply minimum_is_entry | exact Hne].
Qed.

(** S10: 0 <= v' H v <= |v|^2 / 2, it is 0 iff v is constant, and |v|^2 / 2 is attained at y = (0, 0), v = (1, -1). *)
Theorem S10 :
  (forall ys v, ys <> [] -> length ys = length v ->
     0 <= bend ys v <= sq_norm v / 2 /\ (bend ys v = 0 <-> constant v)) /\
  bend [0; 0] [1; -1] = sq_norm [1; -1] / 2.
Proof.
  split.
  - intros ys v Hne Hlen. destruct (sides_of_pairs ys v Hlen) as [Hy Hv].
    set (l := combine ys v) in *. assert (Hl : l <> []) by now apply pairs_nonempty.
    assert (Hvne : v <> []) by (intros ->; now destruct ys).
    pose proof (bend_as_variance l fst snd Hl) as value. pose proof (sum_exp_normalised l fst Hl) as weights.
    rewrite Hy, Hv in *. cbn zeta in value. set (w := fun a : R * R => exp (fst a - LSE ys)) in *.
    change (fun a => exp (fst a - LSE ys) * snd a ^ 2) with (fun a => w a * snd a ^ 2) in value.
    change (fun a => exp (fst a - LSE ys) * snd a) with (fun a => w a * snd a) in value.
    assert (positive : forall a, 0 < w a) by (intros; apply exp_pos).
    pose proof (variance l w snd weights) as spread. set (m := sum (map (fun a => w a * snd a) l)) in *.
    assert (entry : forall p, In p l -> In (snd p) v) by (intros p Hp; rewrite <- Hv; now apply in_map).
    assert (below : 0 <= bend ys v).
    { rewrite value, <- spread. apply sum_nonnegative. intros a.
      apply Rmult_le_pos; [left; apply exp_pos | apply pow2_ge_0]. }
    assert (flat : bend ys v = 0 <-> constant v).
    { split.
      - intros zero. rewrite value, <- spread in zero.
        assert (all : forall p, In p l -> snd p = m).
        { intros p Hp. enough (H : 0 = w p * (snd p - m) ^ 2).
          { symmetry in H. apply Rmult_integral in H as [H | H]; [pose proof (positive p); lra |].
            destruct (Req_dec (snd p - m) 0) as [done | apart]; [lra | now destruct (pow_nonzero _ 2 apart)]. }
          revert p Hp.
          apply (equal_sums l (fun _ => 0)).
          - intros p _. apply Rmult_le_pos; [left; apply exp_pos | apply pow2_ge_0].
          - rewrite sum_constant, Rmult_0_r. now symmetry. }
        intros a b Ha Hb. rewrite <- Hv in Ha, Hb.
        apply in_map_iff in Ha as (p & <- & Hp), Hb as (q & <- & Hq). now rewrite (all p Hp), (all q Hq).
      - intros Hc. rewrite value, <- spread. rewrite (map_ext_in _ (fun _ => 0)); [now rewrite sum_constant, Rmult_0_r |].
        intros p Hp. enough (snd p = m) as -> by ring. unfold m.
        rewrite (map_ext_in _ (fun a => snd p * w a)) by (intros a Ha; rewrite (Hc (snd a) (snd p)) by auto; ring).
        rewrite sum_scale, weights. ring. }
    split; [split; [exact below |] | exact flat].
    destruct (Req_dec (maximum v) (minimum v)) as [same | apart].
    + assert (Hc : constant v).
      { intros a b Ha Hb. pose proof (maximum_bounds v a Ha). pose proof (maximum_bounds v b Hb).
        pose proof (minimum_bounds v a Ha). pose proof (minimum_bounds v b Hb). lra. }
      apply flat in Hc. pose proof (sq_norm_nonnegative v). lra.
    + pose proof (greatest_and_least_in_square_sum v Hvne apart) as both.
      set (hi := maximum v) in both. set (lo := minimum v) in both.
      (* sum_i w_i (v_i - lo) (hi - v_i) >= 0, so the variance is at most (hi - m) (m - lo) <= (hi - lo)^2 / 4. *)
      assert (inside : 0 <= sum (map (fun a => (hi + lo) * (w a * snd a) + (-1 * (w a * snd a ^ 2) + - (hi * lo) * w a)) l)).
      { rewrite <- (Rmult_0_r (count l)), <- sum_constant. apply sum_le. intros p Hp.
        pose proof (maximum_bounds v _ (entry p Hp)) as above. pose proof (minimum_bounds v _ (entry p Hp)) as under.
        fold hi in above. fold lo in under.
        assert (0 <= (snd p - lo) * (hi - snd p)) by (apply Rmult_le_pos; lra). pose proof (positive p). nra. }
      rewrite 2 sum_plus, 3 sum_scale, weights in inside. fold m in inside. rewrite value.
      pose proof (pow2_ge_0 (2 * m - hi - lo)). pose proof (pow2_ge_0 (hi + lo)). nra.
  - unfold bend, softmax, dot, sq_norm, sum. cbn [map combine fold_right]. rewrite exp_0. field.
Qed.

(** How many entries are equal to m. *)
Definition times (m : R) (xs : list R) : nat := count_occ Req_EM_T xs m.

(** S11: with k greatest entries and all others at least gap below them, max + log k <= LSE <= max + log(k + (n - k) e^-gap);
    and if there is one exactly gap below, max + log(k + e^-gap) <= LSE. *)
Theorem S11 : forall xs gap, xs <> [] -> 0 < gap ->
  (forall x, In x xs -> x = maximum xs \/ x <= maximum xs - gap) ->
  let k := INR (times (maximum xs) xs) in
  maximum xs + ln k <= LSE xs <= maximum xs + ln (k + (count xs - k) * exp (- gap)) /\
  (In (maximum xs - gap) xs -> maximum xs + ln (k + exp (- gap)) <= LSE xs).
Proof.
  intros xs gap Hne Hgap Hxs. set (m := maximum xs) in *. intros k.
  assert (some : 0 < k).
  { apply lt_0_INR, (count_occ_In Req_EM_T). now apply maximum_is_entry. }
  assert (sums : k * exp m <= sum (map exp xs) <= k * exp m + (count xs - k) * exp (m - gap) /\
    (In (m - gap) xs -> k * exp m + exp (m - gap) <= sum (map exp xs))).
  { unfold k, times. clearbody m. clear Hne some k. induction xs as [| x xs IH]; [unfold count; simpl; lra |].
    assert (Hrest : forall x, In x xs -> x = m \/ x <= m - gap) by (intros; apply Hxs; now right).
    specialize (IH Hrest) as [[low high] next]. unfold count in *. cbn [map length]. rewrite S_INR.
    unfold sum in *. cbn [fold_right]. pose proof (exp_pos x). pose proof (exp_pos (m - gap)).
    destruct (Req_EM_T x m) as [-> | apart].
    - rewrite count_occ_cons_eq, S_INR by reflexivity. split; [lra |]. intros [H1 | H1]; [lra | specialize (next H1); lra].
    - rewrite count_occ_cons_neq by assumption. destruct (Hxs x (or_introl eq_refl)) as [H1 | H1]; [easy |].
      apply exp_le in H1 as H2. split; [lra |]. intros [-> | H3]; [lra | specialize (next H3); lra]. }
  assert (Hscale : exp (m - gap) = exp m * exp (- gap)) by (rewrite <- exp_plus; f_equal; ring).
  rewrite Hscale in sums. pose proof (exp_pos m). pose proof (exp_pos (- gap)).
  assert (Hpos : 0 < sum (map exp xs)) by (now apply (sum_exp_positive xs (fun x => x))).
  assert (shift : forall a, 0 < a -> m + ln a = ln (a * exp m)) by (intros; rewrite ln_mult, ln_exp by lra; ring).
  unfold LSE. destruct sums as [[low high] next]. repeat split.
  - rewrite shift by lra. apply ln_le; nra.
  - assert (0 < k + (count xs - k) * exp (- gap)).
    { apply Rmult_lt_reg_r with (exp m); nra. }
    rewrite shift by assumption. apply ln_le; nra.
  - intros Hin. specialize (next Hin). rewrite shift by lra. apply ln_le; nra.
Qed.

(** S33: with k nearest patterns and all others at least gap beyond g in squared distance,
    g - log(k + (d - k) e^-gap) <= E <= g - log k. *)
Theorem S33 : forall x patterns gap, patterns <> [] -> 0 < gap ->
  (forall rho, In rho patterns -> sq_distance x rho = g x patterns \/ g x patterns + gap <= sq_distance x rho) ->
  let k := INR (times (g x patterns) (map (sq_distance x) patterns)) in
  g x patterns - ln (k + (count patterns - k) * exp (- gap)) <= E x patterns <= g x patterns - ln k.
Proof.
  intros x patterns gap Hne Hgap Hd k. set (ds := map (sq_distance x) patterns) in *.
  assert (Hds : ds <> []) by now apply map_nonempty. pose proof (map_nonempty ds Ropp Hds) as Hneg.
  assert (top : maximum (map Ropp ds) = - g x patterns)
    by (unfold g; fold ds; rewrite minimum_is_opposite_of_maximum by exact Hds; ring).
  assert (same : times (- g x patterns) (map Ropp ds) = times (g x patterns) ds).
  { unfold times. symmetry. apply count_occ_map. intros a b. lra. }
  pose proof (S11 (map Ropp ds) gap Hneg Hgap) as S11. rewrite top, same in S11. unfold E. rewrite opposites. fold ds.
  lapply S11.
  - intros [bounds _]. fold k in bounds. replace (count (map Ropp ds)) with (count patterns) in bounds
      by (unfold count, ds; now rewrite 2 map_length). lra.
  - intros y Hy. apply in_map_iff in Hy as (a & <- & Ha). apply in_map_iff in Ha as (rho & <- & Hrho).
    destruct (Hd rho Hrho); [left | right]; lra.
Qed.
