(** Derivatives and integrals, with Coquelicot: the partial derivatives of LSE, the incomplete gamma function of L5, and the
    radial integrals that equation (12) confuses. *)

From Coq Require Import Reals List Lra Lia Classical.
From Coquelicot Require Import Coquelicot.
From Memlm Require Import Definitions Sums LogSumExp.
Import ListNotations.
Open Scope R_scope.

Lemma sum_at_an_entry : forall f before (x : R) after,
  sum (map f (before ++ x :: after)) = f x + sum (map f (before ++ after)).
Proof. intros. rewrite 2 map_app, 2 sum_append. unfold sum. simpl. ring. Qed.

Lemma nth_at_an_entry : forall f before (x : R) after, nth (length before) (map f (before ++ x :: after)) 0 = f x.
Proof. intros. rewrite map_app, app_nth2; rewrite map_length; [| lia]. now rewrite Nat.sub_diag. Qed.

(** SM, entry by entry: the derivative of LSE(beta, y) in y_k is softmax(beta y)_k, for every n, k and beta > 0 ... *)
Theorem SM_partial_at_beta : forall beta (before : list R) (x : R) (after : list R), 0 < beta ->
  is_derive (fun t => LSE_at beta (before ++ t :: after)) x
    (nth (length before) (softmax (map (fun y => beta * y) (before ++ x :: after))) 0).
Proof.
  intros beta before x after Hb. unfold LSE_at, softmax. rewrite 2 map_map, nth_at_an_entry.
  set (f := fun y => exp (beta * y)). set (rest := sum (map f (before ++ after))).
  assert (0 <= rest) by (apply sum_nonnegative; intros; left; apply exp_pos). pose proof (exp_pos (beta * x)).
  apply is_derive_ext with (fun t => ln (exp (beta * t) + rest) / beta).
  { intros t. now rewrite sum_at_an_entry. }
  rewrite sum_at_an_entry. fold rest. change (f x) with (exp (beta * x)). clearbody rest. auto_derive; [lra |]. field. lra.
Qed.

(** ... and of LSE(y) it is softmax(y)_k. *)
Theorem SM_partial : forall (before : list R) (x : R) (after : list R),
  is_derive (fun t => LSE (before ++ t :: after)) x (nth (length before) (softmax (before ++ x :: after)) 0).
Proof.
  intros before x after. pose proof (SM_partial_at_beta 1 before x after Rlt_0_1) as H.
  rewrite (map_ext _ (fun y => y)), map_id in H by (intros; ring).
  apply is_derive_ext with (2 := H). intros t. apply LSE_at_1.
Qed.

(** y + t v, and the sums of exponentials that LSE and softmax are made of along this line. *)
Definition along (ys v : list R) (t : R) : list R := map (fun '(y, a) => y + t * a) (combine ys v).

Definition moment (k : nat) (l : list (R * R)) (t : R) : R := sum (map (fun p => snd p ^ k * exp (fst p + t * snd p)) l).

Lemma derive_moment : forall k l t, is_derive (moment k l) t (moment (S k) l t).
Proof.
  intros k l t. unfold moment, sum. induction l as [| p l IH]; [apply (is_derive_const 0) |]. cbn [map fold_right].
  apply (is_derive_plus (fun t => snd p ^ k * exp (fst p + t * snd p))); [| exact IH].
  auto_derive; [easy |]. simpl. ring.
Qed.

Lemma moment_0 : forall l t, moment 0 l t = sum (map exp (map (fun p => fst p + t * snd p) l)).
Proof. intros. unfold moment. rewrite map_map. f_equal. apply map_ext. intros. simpl. ring. Qed.

Lemma moment_0_positive : forall l t, l <> [] -> 0 < moment 0 l t.
Proof. intros l t H. rewrite moment_0, map_map. exact (sum_exp_positive l _ H). Qed.

Lemma softmax_by_moments : forall k l t,
  dot (softmax (map (fun p => fst p + t * snd p) l)) (map (fun p => snd p ^ k) l) = moment k l t / moment 0 l t.
Proof.
  intros k l t. unfold softmax. rewrite <- moment_0. generalize (moment 0 l t). intros total. unfold moment, dot, sum.
  induction l as [| p l IH]; [simpl; unfold Rdiv; ring |]. cbn [map combine fold_right]. rewrite IH. unfold Rdiv. ring.
Qed.

(** S10, what is bounded there: along every line t -> y + t v the slope of LSE is softmax . v, and the slope of that is
    [bend]; so bend is v' H v for the Hessian H of LSE. *)
Theorem S10_second_derivative : forall ys v t, ys <> [] -> length ys = length v ->
  is_derive (fun t => LSE (along ys v t)) t (dot (softmax (along ys v t)) v) /\
  is_derive (fun t => dot (softmax (along ys v t)) v) t (bend (along ys v t) v).
Proof.
  intros ys v t Hne Hlen. destruct (sides_of_pairs ys v Hlen) as [_ Hv]. unfold along.
  set (l := combine ys v) in *. assert (Hl : l <> []) by now apply pairs_nonempty.
  assert (line : forall t, map (fun '(y, a) => y + t * a) l = map (fun p => fst p + t * snd p) l)
    by (intros; apply map_ext; now intros []).
  assert (slope : forall t, dot (softmax (map (fun '(y, a) => y + t * a) l)) v = moment 1 l t / moment 0 l t).
  { intros s. rewrite line, <- softmax_by_moments, <- Hv. f_equal. apply map_ext. intros. simpl. ring. }
  assert (bend_ : bend (map (fun '(y, a) => y + t * a) l) v
    = moment 2 l t / moment 0 l t - (moment 1 l t / moment 0 l t) ^ 2).
  { unfold bend. rewrite slope, line, <- (softmax_by_moments 2), <- Hv. now rewrite map_map. }
  pose proof (moment_0_positive l t Hl) as positive. split.
  - rewrite slope. apply is_derive_ext with (fun t => ln (moment 0 l t)).
    { intros s. now rewrite line, moment_0. }
    replace (moment 1 l t / moment 0 l t) with (scal (moment 1 l t) (/ moment 0 l t)) by reflexivity.
    apply (is_derive_comp ln); [now apply is_derive_ln | apply derive_moment].
  - rewrite bend_. apply is_derive_ext with (fun t => moment 1 l t / moment 0 l t); [intros s; now rewrite slope |].
    replace (_ - _) with ((moment 2 l t * moment 0 l t - moment 1 l t * moment 1 l t) / moment 0 l t ^ 2) by (field; lra).
    apply is_derive_div; [apply derive_moment | apply derive_moment | lra].
Qed.

(** gamma(n, r) = integral of s^(n-1) e^-s from 0 to r, for real n > 0: improper at 0 when n < 1. *)
Definition gamma_integrand (n s : R) : R := Rpower s (n - 1) * exp (- s).

Definition gamma (n r : R) : R := RInt_gen (gamma_integrand n) (at_right 0) (at_point r).

Section Gamma.
Variables n r : R.
Hypothesis Hn : 0 < n.
Hypothesis Hr : 0 < r.

Lemma integrand_positive : forall s, 0 < gamma_integrand n s.
Proof. intros s. apply Rmult_lt_0_compat; apply exp_pos. Qed.

Lemma integrable : forall a b, 0 < a -> a <= b -> ex_RInt (gamma_integrand n) a b.
Proof.
  intros a b Ha Hab. apply (ex_RInt_continuous (gamma_integrand n)). rewrite Rmin_left, Rmax_right by exact Hab. intros s Hs.
  apply (ex_derive_continuous (gamma_integrand n)). unfold gamma_integrand, Rpower. auto_derive. lra.
Qed.

Lemma power_integral : forall a b, 0 < a -> a <= b ->
  is_RInt (fun s => Rpower s (n - 1)) a b ((Rpower b n - Rpower a n) / n).
Proof.
  intros a b Ha Hab. replace ((Rpower b n - Rpower a n) / n) with (minus (Rpower b n / n) (Rpower a n / n))
    by (unfold minus, plus, opp; simpl; field; lra).
  apply (is_RInt_derive (fun s => Rpower s n / n)); rewrite Rmin_left, Rmax_right by exact Hab; intros s Hs.
  - unfold Rpower. auto_derive; [lra |]. replace ((n - 1) * ln s) with (n * ln s + - ln s) by ring.
    rewrite exp_plus, exp_Ropp, exp_ln by lra. field. lra.
  - apply (ex_derive_continuous (fun s => Rpower s (n - 1))). unfold Rpower. auto_derive. lra.
Qed.

Lemma proper_bounds : forall e, 0 < e -> e <= r ->
  exp (- r) * (Rpower r n - Rpower e n) / n <= RInt (gamma_integrand n) e r <= (Rpower r n - Rpower e n) / n.
Proof.
  intros e He Her. pose proof (power_integral e r He Her) as power. pose proof (RInt_correct _ _ _ (integrable e r He Her)).
  split.
  - replace (exp (- r) * (Rpower r n - Rpower e n) / n) with (scal (exp (- r)) ((Rpower r n - Rpower e n) / n))
      by (unfold scal; simpl; unfold mult; simpl; field; lra).
    pose proof (is_RInt_scal _ _ _ (exp (- r)) _ power) as scaled.
    apply (is_RInt_le _ _ _ _ _ _ Her scaled H). intros s Hs.
    unfold scal, gamma_integrand; simpl; unfold mult; simpl. rewrite Rmult_comm.
    apply Rmult_le_compat_l; [left; apply exp_pos | apply exp_le; lra].
  - apply (is_RInt_le _ _ _ _ _ _ Her H power). intros s Hs. unfold gamma_integrand.
    rewrite <- (Rmult_1_r (Rpower s (n - 1))) at 2. apply Rmult_le_compat_l; [left; apply exp_pos |].
    rewrite <- exp_0. apply exp_le. lra.
Qed.

(** The integral from e to r grows as e falls, and has the limit that the bounds on it suggest. *)
Lemma gamma_exists : exists v, is_RInt_gen (gamma_integrand n) (at_right 0) (at_point r) v /\
  exp (- r) * Rpower r n / n <= v <= Rpower r n / n.
Proof.
  set (I := fun e => RInt (gamma_integrand n) e r : R). set (values := fun y => exists e, 0 < e <= r /\ y = I e).
  assert (grows : forall a b, 0 < a -> a <= b -> b <= r -> I b <= I a).
  { intros a b Ha Hab Hbr. unfold I. rewrite <- (RInt_Chasles (gamma_integrand n) a b r) by (apply integrable; lra).
    enough (0 <= RInt (gamma_integrand n) a b) by (unfold plus; simpl; lra).
    apply RInt_ge_0; [exact Hab | apply integrable; lra |]. intros s _. left. apply integrand_positive. }
  assert (above : is_upper_bound values (Rpower r n / n)).
  { intros y (e & [He Her] & ->). pose proof (proper_bounds e He Her) as [_ upper]. fold (I e) in upper.
    assert (0 < Rpower e n / n) by (apply Rdiv_lt_0_compat; [apply exp_pos | exact Hn]). unfold Rdiv in *. lra. }
  destruct (completeness values) as [v [bound least]].
  { now exists (Rpower r n / n). }
  { exists (I r). exists r. split; [lra | reflexivity]. }
  exists v. repeat split.
  - intros P [eps HP].
    assert (near : exists e, 0 < e <= r /\ v - eps < I e).
    { apply NNPP. intros none. assert (v <= v - eps); [apply least | destruct eps; simpl in *; lra].
      intros y (e & He & ->). apply Rnot_lt_le. intros big. apply none. now exists e. }
    destruct near as (e0 & He0 & near).
    apply Filter_prod with (fun e => 0 < e <= e0) (fun b => b = r); [| reflexivity |].
    + exists (mkposreal e0 (proj1 He0)). intros e He Hpos. split; [exact Hpos |].
      unfold ball in He; simpl in He; unfold AbsRing_ball, abs, minus, plus, opp in He; simpl in He.
      rewrite Ropp_0, Rplus_0_r in He. apply Rabs_def2 in He. lra.
    + intros e b [He Hee] ->. exists (I e).
      split; [apply (RInt_correct (gamma_integrand n) e r), integrable; lra |]. apply HP.
      assert (I e <= v) by (apply bound; exists e; split; [lra | reflexivity]).
      pose proof (grows e e0 He Hee (proj2 He0)).
      unfold ball; simpl; unfold AbsRing_ball, abs, minus, plus, opp; simpl. apply Rabs_def1; lra.
  - apply Rnot_lt_le. intros low. set (c := exp (- r) / n). pose proof (exp_pos (- r)).
    assert (Hc : 0 < c) by (now apply Rdiv_lt_0_compat). replace (exp (- r) * Rpower r n / n) with (c * Rpower r n) in low
      by (unfold c; field; lra).
    set (d := Rmin ((c * Rpower r n - v) / (2 * c)) (Rpower r n)).
    assert (Hd : 0 < d) by (apply Rmin_glb_lt; [apply Rdiv_lt_0_compat; lra | apply exp_pos]).
    assert (Hdc : 2 * (c * d) <= c * Rpower r n - v).
    { pose proof (Rmin_l ((c * Rpower r n - v) / (2 * c)) (Rpower r n)) as Hmin. fold d in Hmin.
      apply Rmult_le_compat_r with (r := 2 * c) in Hmin; [| lra]. field_simplify in Hmin; lra. }
    set (e := Rpower d (/ n)). assert (He : 0 < e) by apply exp_pos.
    assert (Hen : Rpower e n = d) by (unfold e; rewrite Rpower_mult, Rinv_l, Rpower_1; lra).
    assert (Her : e <= r).
    { unfold e. apply Rle_trans with (Rpower (Rpower r n) (/ n)).
      - apply Rle_Rpower_l; [left; now apply Rinv_0_lt_compat | split; [exact Hd | apply Rmin_r]].
      - right. rewrite Rpower_mult, Rinv_r, Rpower_1; lra. }
    pose proof (proper_bounds e He Her) as [lower _]. rewrite Hen in lower. fold (I e) in lower.
    replace (exp (- r) * (Rpower r n - d) / n) with (c * Rpower r n - c * d) in lower by (unfold c; field; lra).
    assert (I e <= v) by (apply bound; exists e; split; [lra | reflexivity]). nra.
  - now apply least.
Qed.

End Gamma.

(** L5, for every real n > 0 and r > 0: e^-r r^n / n <= gamma(n, r) <= r^n / n, where gamma's integral does exist. *)
Theorem L5 : forall n r, 0 < n -> 0 < r ->
  is_RInt_gen (gamma_integrand n) (at_right 0) (at_point r) (gamma n r) /\
  exp (- r) * Rpower r n / n <= gamma n r <= Rpower r n / n.
Proof.
  intros n r Hn Hr. destruct (gamma_exists n r Hn Hr) as (v & integral & bounds). unfold gamma.
  now rewrite (is_RInt_gen_unique _ _ integral).
Qed.

(** Where n = k + 1 is a natural number, gamma is a plain integral. *)
Theorem gamma_at_naturals : forall k r, 0 < r -> gamma (INR (S k)) r = RInt (fun s => s ^ k * exp (- s)) 0 r.
Proof.
  intros k r Hr. set (h := fun s => s ^ k * exp (- s)). unfold gamma.
  apply (is_RInt_gen_unique (gamma_integrand (INR (S k))) (RInt h 0 r)).
  assert (integrable_h : forall a b, ex_RInt h a b).
  { intros a b. apply (ex_RInt_continuous h). intros s _. apply (ex_derive_continuous h). unfold h. auto_derive. easy. }
  intros P [eps HP]. assert (Hbound : 0 < r ^ k + 1) by (pose proof (pow_lt r k Hr); lra).
  set (e0 := Rmin r (eps / (r ^ k + 1))).
  assert (He0 : 0 < e0) by (apply Rmin_glb_lt; [exact Hr | apply Rdiv_lt_0_compat; [apply cond_pos | exact Hbound]]).
  apply Filter_prod with (fun e => 0 < e < e0) (fun b => b = r); [| reflexivity |].
  - exists (mkposreal e0 He0). intros e He Hpos. split; [exact Hpos |].
    unfold ball in He; simpl in He; unfold AbsRing_ball, abs, minus, plus, opp in He; simpl in He.
    rewrite Ropp_0, Rplus_0_r in He. apply Rabs_def2 in He. lra.
  - intros e b [He Hee] ->. pose proof (Rmin_l r (eps / (r ^ k + 1))). pose proof (Rmin_r r (eps / (r ^ k + 1))).
    fold e0 in H, H0. exists (RInt h e r). split.
    + apply (is_RInt_ext h); [| apply (RInt_correct h e r), integrable_h]. cbn [fst snd]. intros s Hs.
      rewrite Rmin_left in Hs by lra. unfold h, gamma_integrand. rewrite S_INR. replace (INR k + 1 - 1) with (INR k) by ring.
      now rewrite Rpower_pow by lra.
    + apply HP. pose proof (RInt_Chasles h 0 e r (integrable_h 0 e) (integrable_h e r)) as whole.
      unfold plus in whole; simpl in whole.
      assert (0 <= RInt h 0 e).
      { apply RInt_ge_0; [lra | apply integrable_h |]. intros s Hs. unfold h.
        apply Rmult_le_pos; [apply pow_le; lra | left; apply exp_pos]. }
      assert (RInt h 0 e <= e * r ^ k).
      { replace (e * r ^ k) with (RInt (fun _ => r ^ k) 0 e)
          by (rewrite RInt_const; unfold scal; simpl; unfold mult; simpl; ring).
        apply RInt_le; [lra | apply integrable_h | apply ex_RInt_const |]. intros s Hs. unfold h.
        rewrite <- (Rmult_1_r (r ^ k)). apply Rmult_le_compat; [apply pow_le; lra | left; apply exp_pos | |].
        - apply pow_incr. lra.
        - rewrite <- exp_0. apply exp_le. lra. }
      assert (e * (r ^ k + 1) < eps).
      { apply Rlt_le_trans with (e0 * (r ^ k + 1)); [now apply Rmult_lt_compat_r |].
        apply Rmult_le_compat_r with (r := r ^ k + 1) in H0; [| lra].
        unfold Rdiv in H0. rewrite Rmult_assoc, Rinv_l, Rmult_1_r in H0 by lra. exact H0. }
      unfold ball; simpl; unfold AbsRing_ball, abs, minus, plus, opp; simpl. fold h. rewrite <- whole.
      apply Rabs_def1; lra.
Qed.

Lemma gaussian_integrable : forall k a b, ex_RInt (fun s => s ^ k * exp (- s ^ 2)) a b.
Proof.
  intros k a b. apply (ex_RInt_continuous (fun s => s ^ k * exp (- s ^ 2))). intros s _.
  apply (ex_derive_continuous (fun s => s ^ k * exp (- s ^ 2))). auto_derive. easy.
Qed.

(** E12. In polar coordinates the integral of exp(- |y|^2) over the ball of radius r in R^n is the area of the unit sphere,
    2 pi^(n/2) / Gamma(n/2), times the integral of s^(n-1) e^(-s^2) from 0 to r (a step that is not formalised here);
    printed is that area times gamma(n, r). For every n >= 1 and r <= 1 this is too small ... *)
Theorem E12_printed_is_too_small : forall k r, 0 < r <= 1 ->
  gamma (INR (S k)) r < RInt (fun s => s ^ k * exp (- s ^ 2)) 0 r.
Proof.
  intros k r Hr. rewrite (gamma_at_naturals k) by lra. apply RInt_lt; [lra | | |].
  - intros s _. apply (ex_derive_continuous (fun s => s ^ k * exp (- s ^ 2))). auto_derive. easy.
  - intros s _. apply (ex_derive_continuous (fun s => s ^ k * exp (- s))). auto_derive. easy.
  - intros s Hs. apply Rmult_lt_compat_l; [apply pow_lt; lra | apply exp_increasing; nra].
Qed.

(** ... which in R^1 needs no polar coordinates: printed is 2 sqrt(pi) gamma(1, r) / Gamma(1/2) = 2 gamma(1, r) ... *)
Theorem E12_printed_is_false_in_one_dimension : forall r, 0 < r <= 1 ->
  2 * gamma 1 r < RInt (fun y => exp (- y ^ 2)) (- r) r.
Proof.
  intros r Hr. pose proof (E12_printed_is_too_small 0 r Hr) as half. simpl INR in half.
  assert (plain : forall a b, RInt (fun s => s ^ 0 * exp (- s ^ 2)) a b = RInt (fun s => exp (- s ^ 2)) a b)
    by (intros; apply RInt_ext; intros; simpl; ring).
  rewrite plain in half. set (h := fun y => exp (- y ^ 2)) in *.
  assert (integrable_h : forall a b, ex_RInt h a b).
  { intros a b. apply (ex_RInt_ext (fun s => s ^ 0 * exp (- s ^ 2))); [| apply gaussian_integrable].
    intros. unfold h. simpl. ring. }
  rewrite <- (RInt_Chasles h (- r) 0 r) by apply integrable_h.
  assert (mirror : RInt h (- r) 0 = RInt h 0 r).
  { apply is_RInt_unique. pose proof (is_RInt_comp_opp h (- r) 0 (opp (RInt h 0 r))) as turned.
    rewrite Ropp_0, Ropp_involutive in turned.
    specialize (turned (is_RInt_swap _ _ _ _ (RInt_correct h 0 r (integrable_h 0 r)))).
    apply is_RInt_opp in turned. rewrite opp_opp in turned. apply is_RInt_ext with (2 := turned). intros y _.
    rewrite opp_opp. unfold h. f_equal. ring. }
  rewrite mirror. unfold plus; simpl. lra.
Qed.

(** ... and for R^3 and r = 1 it misses by more than 1/5: 4 pi is the area of the unit sphere in R^3. *)
Theorem E12_printed_is_false_in_three_dimensions :
  4 * PI * gamma 3 1 + 1 / 5 < 4 * PI * RInt (fun s => s ^ 2 * exp (- s ^ 2)) 0 1.
Proof.
  replace (gamma 3 1) with (gamma (INR 3) 1) by (f_equal; simpl; ring). rewrite gamma_at_naturals by lra.
  assert (low : RInt (fun s => s ^ 2 * exp (- s)) 0 1 + 1 / 60 <= RInt (fun s => s ^ 2 * exp (- s ^ 2)) 0 1).
  { set (f := fun s => s ^ 2 * exp (- s)). set (p := fun s => s ^ 3 - 2 * s ^ 4 + s ^ 5).
    assert (polynomial : is_RInt p 0 1 (1 / 60)).
    { replace (1 / 60) with (minus (1 ^ 4 / 4 - 2 * 1 ^ 5 / 5 + 1 ^ 6 / 6) (0 ^ 4 / 4 - 2 * 0 ^ 5 / 5 + 0 ^ 6 / 6))
        by (unfold minus, plus, opp; simpl; field).
      apply (is_RInt_derive (fun s => s ^ 4 / 4 - 2 * s ^ 5 / 5 + s ^ 6 / 6) p); intros s _; unfold p.
      - auto_derive; [easy | field].
      - apply (ex_derive_continuous p). unfold p. auto_derive. easy. }
    assert (integrable_f : ex_RInt f 0 1).
    { apply (ex_RInt_continuous f). intros s _. apply (ex_derive_continuous f). unfold f. auto_derive. easy. }
    pose proof (is_RInt_plus f p 0 1 _ _ (RInt_correct _ _ _ integrable_f) polynomial) as below.
    apply (is_RInt_le _ _ _ _ _ _ Rle_0_1 below (RInt_correct _ _ _ (gaussian_integrable 2 0 1))).
    intros s Hs. change (s ^ 2 * exp (- s) + (s ^ 3 - 2 * s ^ 4 + s ^ 5) <= s ^ 2 * exp (- s ^ 2)).
    (* e^(-s^2) - e^-s >= e^-s (s - s^2) >= (1 - s) (s - s^2). *)
    replace (exp (- s ^ 2)) with (exp (- s) * exp (s - s ^ 2)) by (rewrite <- exp_plus; f_equal; ring).
    pose proof (exp_ineq1_le (- s)). pose proof (exp_ineq1_le (s - s ^ 2)).
    assert ((1 - s) * (s - s ^ 2) <= exp (- s) * (exp (s - s ^ 2) - 1)) by (apply Rmult_le_compat; nra).
    pose proof (Rmult_le_compat_l (s ^ 2) _ _ (pow2_ge_0 s) H1). lra. }
  pose proof PI2_3_2. nra.
Qed.
